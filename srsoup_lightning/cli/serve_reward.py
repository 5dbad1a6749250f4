"""``srsoup serve-reward``: rewards over HTTP."""

from rewards.remote.server import serve

__all__ = ["serve"]
