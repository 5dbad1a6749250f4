"""What a run may spend and has spent, counted before it is spent, by all its processes together."""

from __future__ import annotations

import copy
import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

_lock = threading.Lock()  # not an attribute, for an object with one can't be sent to another process


def budget_of(reward: str) -> str:
    """The name that the budget of a reward is counted by."""
    return f"oracle.budgets.{reward}"


class LimitError(RuntimeError):
    """What would come next costs more than a bound or a budget leaves."""


@dataclass
class Counts:
    """Amounts by the name of the option that bounds them.

    Attributes:
        spent: What is spent for good.
        held: What soups under way have put aside.
        reached: What ended the run, in words; None while nothing did.
    """

    spent: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    reached: str | None = None

    def taken(self, name: str) -> float:
        """What is spent or held of one amount."""
        return self.spent.get(name, 0) + self.held.get(name, 0)

    def spend(self, name: str, amount: float) -> None:
        """Add to what is spent."""
        self.spent[name] = self.spent.get(name, 0) + amount

    def hold(self, name: str, amount: float) -> None:
        """Add to what is held, or take from it; it is never below 0, which would let others spend too much."""
        self.held[name] = max(0, self.held.get(name, 0) + amount)


class Store(Protocol):
    """Where counts are kept."""

    def read(self) -> Counts:
        """The counts as they are, to look at."""

    def changing(self) -> AbstractContextManager[Counts]:
        """The counts for one change that nobody else comes between; kept if the block ends without an error."""


class Memory:
    """The counts of one process alone."""

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
    """One process's hand on the counts, for one soup at a time; without bounds it does nothing.

    Args:
        bounds: Name to the most that may be spent; infinity counts only.
        store: Where the counts are, its own process by default.
    """

    def __init__(self, bounds: Mapping[str, float], store: Store | None = None) -> None:
        self.bounds, self.store = dict(bounds), store or Memory()
        self._held = defaultdict[str, float](int)  # by this process; changed only while the counts are

    def share(self, store: Store) -> None:
        """Count elsewhere from now on, and go on with whatever was ever counted there."""
        self.store = store
        self.bounds = dict.fromkeys(store.read().spent, math.inf) | self.bounds

    def begin(self) -> None:
        """Forget what killed processes had put aside, and what ended the run; call it before any soup is under way."""
        if self.store.read() != Counts():
            with self.store.changing() as counts:
                counts.held, counts.reached = {}, None

    def hold(self, amounts: Mapping[str, float]) -> None:
        """Put amounts aside for the soup under way, all or none; what isn't bounded is left out.

        Raises:
            LimitError: They don't fit.
        """
        amounts = {name: amount for name, amount in amounts.items() if name in self.bounds}
        if not amounts:
            return
        with self.store.changing() as counts:
            for name, amount in amounts.items():
                self._require(counts, name, amount)
            for name, amount in amounts.items():
                counts.hold(name, amount)
                self._held[name] += amount

    def pay(self, name: str, amount: float) -> None:
        """Spend for good, of what was put aside or beyond it; killed right after, it counts as spent.

        Raises:
            LimitError: It doesn't fit.
        """
        if name not in self.bounds:
            return
        with self.store.changing() as counts:
            own = min(self._held[name], amount)
            counts.hold(name, -own)
            self._require(counts, name, amount)
            counts.spend(name, amount)
            self._held[name] -= own

    def settle(self, amounts: Mapping[str, float]) -> None:
        """Count what the soup has spent beside what was paid, and let go of all that was put aside for it."""
        if not self.bounds:
            return
        with self.store.changing() as counts:
            for name, held in self._held.items():
                counts.hold(name, -held)
            for name in amounts.keys() & self.bounds:
                counts.spend(name, amounts[name])
            self._held.clear()

    def stop(self, reason: str) -> bool:
        """Let no process begin another soup; whether this is the first to say so."""
        with self.store.changing() as counts:
            first = counts.reached is None
            counts.reached = counts.reached or reason
        return first

    def require_going(self) -> None:
        """Raise LimitError if any process has reached a bound."""
        if reached := self.store.read().reached:
            raise LimitError(reached)

    def spent(self) -> dict[str, float]:
        """What is spent, by name, in the order of the bounds."""
        spent = self.store.read().spent
        return {name: spent.get(name, 0) for name in self.bounds}

    def _require(self, counts: Counts, name: str, amount: float) -> None:
        require_room(name, self.bounds[name], counts.taken(name), amount)


def require_room(name: str, bound: float, taken: float, amount: float) -> None:
    """Raise LimitError, with the bound's name, if an amount doesn't fit beside what is taken."""
    if taken + amount > bound:
        raise LimitError(
            f"{name} is {bound:,}: {round(taken, 2):,} are taken, and {round(amount, 2):,} more were needed"
        )
