"""Limits of a soup and of a run, looked at before what they bound is spent."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from srsoup_lightning.costs.account import Account, LimitError, budget_of, require_room
from srsoup_lightning.costs.ledger import Ledger, unmetered

SLICE = 1.0  # seconds put aside at once, so that the common counts aren't changed with every batch


@dataclass(frozen=True)
class Limits:
    """How much a soup, or a run, may cost at most, in the ledger's terms; None is no bound.

    Args:
        max_queries: Queries of all rewards together.
        max_nfe: Network evaluations.
        max_seconds: Seconds of making soups, those of all processes added up; looked at before each batch, so a soup
            may go beyond by one.

    Raises:
        ValueError: A number that isn't above 0.
    """

    max_queries: int | None = None
    max_nfe: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, bound in asdict(self).items():
            if bound is not None and not bound > 0:
                raise ValueError(f"{name} is {bound}: give a number above 0, or None for no bound")

    def named(self, owner: str) -> dict[str, float]:
        """Those that are given, by option names such as "run_limits.max_nfe" for the owner "run"."""
        return {f"{owner}_bounds.{name}": bound for name, bound in asdict(self).items() if bound is not None}


def costs(owner: str, ledger: Ledger) -> dict[str, float]:
    """What a ledger says, by the names that :meth:`Limits.named` gives."""
    prefix = f"{owner}_bounds.max_"
    return {
        f"{prefix}queries": ledger.total_queries,
        f"{prefix}nfe": ledger.nfe,
        f"{prefix}seconds": ledger.elapsed,
    }


@contextmanager
def metered(
    ledger: Ledger, soup: Limits, account: Account, expected: Ledger, images: Mapping[str, float]
) -> Iterator[None]:
    """Look at all that a soup counts in its ledger, and let nothing pass that goes beyond a bound.

    Args:
        ledger: Of the soup under way.
        soup: Its bounds.
        account: What the run may spend.
        expected: What the soup will cost, as far as that is known; it is put aside in the account.
        images: How many images it will send to paid rewards, by the names of their budgets; likewise.

    Raises:
        LimitError: At once if what is expected doesn't fit, or from the block, before what doesn't fit is done.
    """
    account.require_going()
    bounds = soup.named("soup")
    for name, amount in costs("soup", expected).items():
        require_room(name, bounds.get(name, math.inf), 0, amount)
    account.hold({**costs("run", expected), **images})
    ledger.before = _Meter(bounds, account, ledger, expected)
    try:
        yield
    finally:
        ledger.before = unmetered
        account.settle(costs("run", ledger))


class _Meter:
    """Told of what a soup is about to count, from any thread; see :func:`metered`."""

    def __init__(self, bounds: Mapping[str, float], account: Account, ledger: Ledger, expected: Ledger) -> None:
        self.bounds, self.account, self.ledger = bounds, account, ledger
        self._taken, self._held = costs("run", ledger), costs("run", expected)
        self._lock = threading.Lock()

    def __call__(self, cost: str, amount: int) -> None:
        """Raise LimitError if an amount of "queries" or "nfe" goes beyond a bound, or the time up to now does."""
        with self._lock:
            self._take("seconds", self.ledger.elapsed - self._taken["run_limits.max_seconds"], SLICE)
            self._take(cost, amount)

    def _take(self, cost: str, amount: float, ahead: float = 0.0) -> None:
        soup, run = f"soup_limits.max_{cost}", f"run_limits.max_{cost}"
        require_room(soup, self.bounds.get(soup, math.inf), self._taken[run], amount)
        missing = self._taken[run] + amount - self._held[run]
        if missing > 0:
            self._held[run] += self._hold(run, missing, ahead)
        self._taken[run] += amount

    def _hold(self, name: str, amount: float, ahead: float) -> float:
        """Put an amount aside, and so much ahead if there is room; how much it was."""
        try:
            self.account.hold({name: amount + ahead})
        except LimitError:
            self.account.hold({name: amount})
            return amount
        return amount + ahead


def spent_by(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What the soups of these rows of ledger.jsonl have spent, by the names of bounds and budgets.

    Of budgets it is an estimate: images of soups that were abandoned are in no row, and what preferences share was sent
    but once.
    """
    spent: Counter[str] = Counter()
    for row in rows:
        ledger = Ledger(queries=row["queries"], nfe=row["nfe"], seconds=row["seconds"])
        spent.update(costs("run", ledger))
        spent.update({budget_of(name): asked + row["images"] for name, asked in row["queries"].items()})
    return dict(spent)
