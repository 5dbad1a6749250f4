"""A connection to the server, which waits for nobody for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from rewards.remote.protocol import Limits
from rewards.remote.rate_limit import one_asker


def bounded(bounds: Limits) -> type[H11Protocol]:
    """The class of uvicorn's connections that keeps these limits on their number and on how long a head may take."""

    class Connection(BoundedConnection):
        limits = bounds

    return Connection


class BoundedConnection(H11Protocol):
    """uvicorn's own connection, closed at once if there are too many, and when the next request's head is late.

    uvicorn alone closes connections that have been answered and then say nothing, but neither those that never say
    anything nor those that say it byte by byte.
    """

    limits: Limits
    asker = ""
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, or refuse: one address may have half of all connections."""
        super().connection_made(transport)
        self.asker = one_asker(self.client[0]) if self.client else ""
        alike = sum(getattr(each, "asker", None) == self.asker for each in self.connections)
        if len(self.connections) > self.limits.connections or alike > (self.limits.connections + 1) // 2:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop waiting if that was the end of a head; the body has its own time."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next head."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._patience is None:
            # Not close, which would wait until the other end has read everything.
            self._patience = self.loop.call_later(self.limits.seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
