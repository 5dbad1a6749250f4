"""Rewards over HTTP: the protocol, the client and the server."""
