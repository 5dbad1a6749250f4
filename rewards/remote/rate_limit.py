"""Rate limit of the server for each client address."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, ip_address, ip_network

_BURST = 10.0  # seconds whose requests may come at once
_MANY = 1000  # clients in memory above which those without recent requests are forgotten


def client_key(host: str) -> str:
    """Key of the client at an address: the /64 of an IPv6 address, all of which one machine can have, or itself."""
    try:
        address = ip_address(host)
    except ValueError:  # a Unix socket
        return host
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


class RateLimit:
    """Requests per minute of each client, those of ten seconds at once: the generic cell rate algorithm, ITU-T I.371.

    Args:
        per_minute: Requests per minute, at least 1.
    """

    def __init__(self, per_minute: int) -> None:
        self._interval = 60 / per_minute
        self._slack = max(0.0, _BURST - self._interval)
        self._due: dict[str, float] = {}

    def wait(self, client: str, now: float | None = None) -> float:
        """Seconds until the client may send a request. If they are 0, the request is counted.

        Args:
            client: Key of the client.
            now: Seconds of a monotonic clock; None takes that of the process.
        """
        now = time.monotonic() if now is None else now
        due = max(self._due.get(client, now), now)  # time of the next request of a client that keeps to the interval
        if due - now > self._slack:
            return due - now - self._slack
        if len(self._due) >= _MANY:
            self._due = {each: then for each, then in self._due.items() if then > now}
        self._due[client] = due + self._interval
        return 0.0
