"""Meanings of the measures of a comparison: their units, and which of two values is the better one."""

from __future__ import annotations

from typing import Literal, NamedTuple

Better = Literal["higher", "lower"]
UNIT = "the unit of rewards"  # stands for that of the comparison


class Meaning(NamedTuple):
    """Meaning of a measure.

    Attributes:
        better: Which value is better. None where neither is by itself.
        unit: Unit; "" for a number of things that the measure's name tells.
    """

    better: Better | None
    unit: str = ""


MEANINGS = {
    "hypervolume": Meaning("higher", "share of the box"),
    "igd_plus": Meaning("lower", "sides of the box"),
    "spread": Meaning(None, "sides of the box"),
    "utility": Meaning("higher", UNIT),
    "monotonicity_": Meaning("higher", "rank correlation"),
    "mean_": Meaning("higher", "the reward's own unit"),
    "diversity": Meaning(None, "RMS of pixels in [0, 1]"),
    "seed_diversity": Meaning(None, "RMS of pixels in [0, 1]"),
    "pictures": Meaning(None, "a front"),
    "queries": Meaning("lower", "a front"),
    "hits": Meaning(None, "a front"),
    "failures": Meaning("lower", "a front"),
    "nfe": Meaning("lower", "network evaluations a front"),
    "gradients": Meaning("lower", "a front"),
    "decodes": Meaning("lower", "a front"),
    "seconds": Meaning("lower", "s a front"),
    "training_queries": Meaning("lower", "in all"),
    "training_nfe": Meaning("lower", "network evaluations in all"),
    "training_gradients": Meaning("lower", "in all"),
    "training_seconds": Meaning("lower", "s in all"),
}
"""Meaning of each measure. A key that ends in "_" is the beginning of the names of measures of one reward."""


def meaning_of(measure: str, unit: str) -> Meaning:
    """Return the meaning of a measure.

    Args:
        measure: Name of the measure.
        unit: Unit of rewards in the comparison.
    """
    found = MEANINGS.get(measure) or next(
        meaning for name, meaning in MEANINGS.items() if name.endswith("_") and measure.startswith(name)
    )
    return found._replace(unit=unit) if found.unit == UNIT else found
