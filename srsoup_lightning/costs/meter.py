"""Meter of a soup: it counts costs in a ledger, and stops the soup before a limit is exceeded."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.costs.limits import LimitError, Limits, limited_costs, require_room

SLICE = 1.0  # seconds reserved at once, so that the counts of the run do not change with every batch


class Meter:
    """Counts what a soup costs, from any thread.

    Each ``count_...`` method is called before the work is done, so that a limit is never exceeded.

    Args:
        ledger: Record that is counted in.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._guard: _Guard | None = None
        self._start: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds up to now, including those of a block under way."""
        return self.ledger.seconds + (0.0 if self._start is None else perf_counter() - self._start)

    def count_queries(self, name: str, images: int) -> None:
        """Count images that a reward is about to be asked about.

        Raises:
            LimitError: A limit leaves no room for them. So do the methods below.
        """
        self._check("queries", images)
        self.ledger.queries[name] += images

    def count_evaluations(self, number: int) -> None:
        """Count network evaluations that are about to be made."""
        self._check("nfe", number)
        self.ledger.nfe += number

    def count_gradients(self, number: int) -> None:
        """Count gradient evaluations that are about to be made."""
        self._check("gradients", number)
        self.ledger.gradients += number

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the wall-clock time of the block to the ledger's seconds."""
        self._start = perf_counter()
        try:
            yield
        finally:
            self.ledger.seconds, self._start = self.elapsed, None

    @contextmanager
    def limited(self, soup: Limits, account: Account, expected: Ledger, images: Mapping[str, float]) -> Iterator[None]:
        """Let nothing pass in the block that exceeds a limit.

        Args:
            soup: Limits of this soup.
            account: Account of the run.
            expected: Expected costs of the soup. They are reserved in the account.
            images: Expected number of images sent to paid rewards, by the names of their budgets. It is reserved too.

        Raises:
            LimitError: At once if the expected costs do not fit, or from the block before an operation that does not.
        """
        account.require_going()
        limits = soup.named("soup")
        for name, amount in limited_costs("soup", expected).items():
            require_room(name, limits.get(name, math.inf), 0, amount)
        account.hold({**limited_costs("run", expected), **images})
        self._guard = _Guard(limits, account, limited_costs("run", self.ledger), limited_costs("run", expected))
        try:
            yield
        finally:
            self._guard = None
            account.settle(limited_costs("run", self.ledger, self.elapsed))

    def _check(self, cost: str, amount: int) -> None:
        if self._guard is not None:
            self._guard.take(cost, amount, self.elapsed)


class _Guard:
    """Compares costs that are about to be counted with the limits of the soup and of the run."""

    def __init__(
        self, limits: Mapping[str, float], account: Account, taken: dict[str, float], held: dict[str, float]
    ) -> None:
        self.limits, self.account, self._taken, self._held = limits, account, taken, held
        self._lock = threading.Lock()

    def take(self, cost: str, amount: float, elapsed: float) -> None:
        """Take an amount of "queries", "nfe" or "gradients", and the seconds up to now.

        Raises:
            LimitError: A limit leaves no room.
        """
        with self._lock:
            self._take("seconds", elapsed - self._taken["run_limits.max_seconds"], SLICE)
            self._take(cost, amount)

    def _take(self, cost: str, amount: float, ahead: float = 0.0) -> None:
        soup, run = f"soup_limits.max_{cost}", f"run_limits.max_{cost}"
        require_room(soup, self.limits.get(soup, math.inf), self._taken[run], amount)
        missing = self._taken[run] + amount - self._held[run]
        if missing > 0:
            self._held[run] += self._hold(run, missing, ahead)
        self._taken[run] += amount

    def _hold(self, name: str, amount: float, ahead: float) -> float:
        """Reserve an amount, and `ahead` more if there is room. Return the reserved amount."""
        try:
            self.account.hold({name: amount + ahead})
        except LimitError:
            self.account.hold({name: amount})
            return amount
        return amount + ahead
