"""Account of a run: limits, reservations and spending that all processes of the run share."""

from __future__ import annotations

import copy
import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from srsoup_lightning.costs.limits import LimitError, require_room

_lock = threading.Lock()  # not an attribute, because an object with a lock can't be sent to another process


@dataclass
class Counts:
    """Amounts by the name of the option that limits them.

    Attributes:
        spent: Amounts that are spent.
        held: Amounts that are reserved for soups under way.
        reached: Message of the limit that ended the run. None as long as no limit was reached.
    """

    spent: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    reached: str | None = None

    def taken(self, name: str) -> float:
        """Return what is spent or reserved of one amount."""
        return self.spent.get(name, 0) + self.held.get(name, 0)

    def spend(self, name: str, amount: float) -> None:
        """Add to the spent amount."""
        self.spent[name] = self.spent.get(name, 0) + amount

    def hold(self, name: str, amount: float) -> None:
        """Add to the reserved amount. It never falls below 0, which would let others spend too much."""
        self.held[name] = max(0, self.held.get(name, 0) + amount)


class Store(Protocol):
    """Storage of the counts."""

    def read(self) -> Counts:
        """Return the current counts, for reading only."""

    def changing(self) -> AbstractContextManager[Counts]:
        """Lock the counts for one change. The change is kept if the block ends without an error."""


class Memory:
    """Store in the memory of one process."""

    def __init__(self) -> None:
        self._counts = Counts()

    def read(self) -> Counts:
        """See :meth:`Store.read`."""
        return self._counts

    @contextmanager
    def changing(self) -> Iterator[Counts]:
        """See :meth:`Store.changing`."""
        with _lock:
            counts = copy.deepcopy(self._counts)
            yield counts
            self._counts = counts


class Account:
    """Access of one process to the counts of the run, for one soup at a time. Without limits it does nothing.

    Args:
        limits: Option name to the highest amount. Infinity counts without a limit.
        store: Storage of the counts. None takes the memory of this process.
    """

    def __init__(self, limits: Mapping[str, float], store: Store | None = None) -> None:
        self.limits, self.store = dict(limits), store or Memory()
        self._held = defaultdict[str, float](int)  # by this process; it changes only while the counts are locked

    def share(self, store: Store) -> None:
        """Count in another store from now on, including every amount that was ever counted there."""
        self.store = store
        self.limits = dict.fromkeys(store.read().spent, math.inf) | self.limits

    def begin(self) -> None:
        """Drop the reservations of killed processes and the reached limit. Call it before any soup is under way."""
        if self.store.read() != Counts():
            with self.store.changing() as counts:
                counts.held, counts.reached = {}, None

    def hold(self, amounts: Mapping[str, float]) -> None:
        """Reserve amounts for the soup under way, all of them or none. Amounts without a limit are left out.

        Raises:
            LimitError: The amounts do not fit.
        """
        amounts = {name: amount for name, amount in amounts.items() if name in self.limits}
        if not amounts:
            return
        with self.store.changing() as counts:
            for name, amount in amounts.items():
                self._require(counts, name, amount)
            for name, amount in amounts.items():
                counts.hold(name, amount)
                self._held[name] += amount

    def pay(self, name: str, amount: float) -> None:
        """Spend an amount at once, from the reservation or beyond it. It stays spent if the process is killed.

        Raises:
            LimitError: The amount does not fit.
        """
        if name not in self.limits:
            return
        with self.store.changing() as counts:
            own = min(self._held[name], amount)
            counts.hold(name, -own)
            self._require(counts, name, amount)
            counts.spend(name, amount)
            self._held[name] -= own

    def settle(self, amounts: Mapping[str, float]) -> None:
        """Count what the soup has spent beside what was paid, and release its reservations."""
        if not self.limits:
            return
        with self.store.changing() as counts:
            for name, held in self._held.items():
                counts.hold(name, -held)
            for name in amounts.keys() & self.limits:
                counts.spend(name, amounts[name])
            self._held.clear()

    def stop(self, reason: str) -> bool:
        """Let no process begin another soup. Return True if no process has said so before."""
        with self.store.changing() as counts:
            first = counts.reached is None
            counts.reached = counts.reached or reason
        return first

    def require_going(self) -> None:
        """Check that no process has reached a limit.

        Raises:
            LimitError: A process has.
        """
        if reached := self.store.read().reached:
            raise LimitError(reached)

    def spent(self) -> dict[str, float]:
        """Return the spent amounts by name, in the order of the limits."""
        spent = self.store.read().spent
        return {name: spent.get(name, 0) for name in self.limits}

    def _require(self, counts: Counts, name: str, amount: float) -> None:
        require_room(name, self.limits[name], counts.taken(name), amount)
