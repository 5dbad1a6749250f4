"""Connections to the server, with limits on their number and on the time of a request's head."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from rewards.remote.protocol import Limits
from rewards.remote.rate_limit import client_key


def limited(limits: Limits) -> type[H11Protocol]:
    """The class of uvicorn's connections with these limits."""
    return type("Connection", (LimitedConnection,), {"limits": limits})


class LimitedConnection(H11Protocol):
    """uvicorn's connection, closed at once if there are too many, and when the head of the next request is late.

    uvicorn itself closes connections that are idle after an answer. It does not close those that never send anything,
    nor those that send a head byte by byte.
    """

    limits: Limits
    client_key = ""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for a head, or refuse: one address may have half of all connections."""
        super().connection_made(transport)
        self.client_key = client_key(self.client[0]) if self.client else ""
        alike = sum(getattr(each, "client_key", None) == self.client_key for each in self.connections)
        if len(self.connections) > self.limits.connections or alike > (self.limits.connections + 1) // 2:
            transport.abort()
        else:
            self._start_or_stop_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the clock at the end of a head; the body has its own."""
        super().data_received(data)
        self._start_or_stop_timer()

    def on_response_complete(self) -> None:
        """Start the clock for the next head."""
        super().on_response_complete()
        self._start_or_stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop_timer()

    def _start_or_stop_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            # close would wait until the other end has read everything.
            self._timer = self.loop.call_later(self.limits.seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
