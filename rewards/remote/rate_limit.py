"""How much of a server one address may have."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, ip_address, ip_network

_BURST = 10.0  # seconds whose requests may come at once
_MANY = 1000  # addresses to remember before those are forgotten that asked long ago


def one_asker(host: str) -> str:
    """Whom an address stands for: of IPv6 the whole /64, which a single machine can have; else itself."""
    try:
        address = ip_address(host)
    except ValueError:  # of a Unix socket
        return host
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


class Meter:
    """Counts what each asker asks: so much a minute, ten seconds' worth of it at once (the GCRA of ATM, I.371).

    Args:
        a_minute: How often one may ask, at least 1.
    """

    def __init__(self, a_minute: int) -> None:
        self._interval = 60 / a_minute
        self._slack = max(0.0, _BURST - self._interval)
        self._due: dict[str, float] = {}

    def wait(self, asker: str, now: float | None = None) -> float:
        """Seconds that one has to wait before asking; 0, and one more counted, if none.

        Args:
            asker: Who.
            now: Seconds of a clock that never goes back; None takes the process's.
        """
        now = time.monotonic() if now is None else now
        due = max(self._due.get(asker, now), now)  # when an asker who kept to the interval would come next
        if due - now > self._slack:
            return due - now - self._slack
        if len(self._due) >= _MANY:
            self._due = {each: then for each, then in self._due.items() if then > now}
        self._due[asker] = due + self._interval
        return 0.0
