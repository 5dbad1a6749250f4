"""Runs that were measured alike, and how sure one is of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from srsoup_lightning.pareto.bootstrap import interval, prompt_means
from srsoup_lightning.report.measures import COSTS, Measured, Weights
from srsoup_lightning.report.units import Scaling

DIFFERENCE = {"mean": "difference", "low": "difference_low", "high": "difference_high"}
COLUMNS = ("run", "measure", "mean", "low", "high", "prompts", *DIFFERENCE.values())
RARE = ("hits", "failures")  # shown where some run has any
Estimate = dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Runs that were measured alike.

    Attributes:
        runs: At least one; differences are to the first.
        scaling: The units and the box of all of them.
        references: The front of each prompt that IGD+ compares with, in the scaling's units.
        shared: The preferences that utility is the mean over.
        notes: What a reader must know to read the numbers right.
    """

    runs: Sequence[Measured]
    scaling: Scaling
    references: Mapping[str, Tensor]
    shared: frozenset[Weights]
    notes: Sequence[str]

    def measures(self) -> list[str]:
        """The measures that some run has, costs last; hits and failures where there were any."""
        found = dict.fromkeys(name for run in self.runs for name in run.values)
        told = [name for name in found if name not in RARE or any(map(any, self._values(name)))]
        return sorted(told, key=lambda name: name in COSTS)

    def _values(self, measure: str) -> list[list[float]]:
        return [values for run in self.runs for values in run.values.get(measure, {}).values()]

    def rows(self) -> list[dict[str, Any]]:
        """A row a run and measure, with the keys COLUMNS; None where something isn't defined."""
        first = self.runs[0]
        return [
            {
                "run": run.name,
                "measure": measure,
                **estimate(run.values[measure]),
                "prompts": len(run.values[measure]),
                **difference(run.values[measure], {} if run is first else first.values.get(measure, {})),
            }
            for run in self.runs
            for measure in self.measures()
            if measure in run.values
        ]


def estimate(by_prompt: Mapping[str, Sequence[float]]) -> Estimate:
    """Mean over prompts, low and high; a single prompt has no interval."""
    found: Estimate = dict(interval(by_prompt))
    return found if len(by_prompt) > 1 else found | {"low": None, "high": None}


def difference(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Estimate:
    """How much more we have than they, paired by prompt; None where no prompt has both."""
    common = [prompt for prompt in ours if prompt in theirs]
    if not common:
        return dict.fromkeys(DIFFERENCE.values())
    left, right = (prompt_means({prompt: values[prompt] for prompt in common}) for values in (ours, theirs))
    paired = estimate({prompt: [value] for prompt, value in zip(common, left - right, strict=True)})
    return {DIFFERENCE[name]: value for name, value in paired.items()}
