"""Means of logged quantities over a round. Processes may log different ones, as their groups train different steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor


class Total(NamedTuple):
    """Sum and number of the values of a quantity."""

    value: float
    number: int


class RoundLogs:
    """Quantities of a round, of one process.

    Args:
        known: Quantities of the whole round, which all processes know.
    """

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known = dict(known)
        self._values: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add quantities of a batch, scalars without a graph. They stay on their device, so that nothing waits."""
        for name, value in values.items():
            self._values[name].append(value)

    def totals(self) -> dict[str, Total]:
        """Return sums and counts over the batches, by name."""
        return {name: Total(sum(map(float, values)), len(values)) for name, values in self._values.items()}


def merged(totals: Sequence[Mapping[str, Total]]) -> dict[str, float]:
    """Return the mean of each quantity over the batches of all processes that have it."""
    found: dict[str, list[Total]] = defaultdict(list)
    for name, total in (item for each in totals for item in each.items()):
        found[name].append(total)
    return {
        name: sum(total.value for total in parts) / sum(total.number for total in parts)
        for name, parts in found.items()
    }
