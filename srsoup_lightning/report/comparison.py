"""Comparison of runs: means over prompts with their intervals, as rows, CSV and JSON."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from srsoup_lightning.pareto.bootstrap import RESAMPLES, interval, prompt_means
from srsoup_lightning.report.measures import COSTS, Measured, Weights, training_costs
from srsoup_lightning.report.units import Units
from srsoup_lightning.runs.rows import total
from srsoup_lightning.version import __version__

DIFFERENCE = {"mean": "difference", "low": "difference_low", "high": "difference_high"}
COLUMNS = ("run", "measure", "mean", "low", "high", "prompts", *DIFFERENCE.values())
RARE = ("hits", "failures", "gradients")  # shown where some run has any
Estimate = dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Runs that were measured in the same units.

    Attributes:
        runs: At least one. Differences are to the first.
        units: Units and box of all of them.
        references: Front (R, M) of each prompt that IGD+ compares with, in these units.
        shared: Preferences that utility is the mean over.
        notes: Remarks that are needed to read the numbers right.
    """

    runs: Sequence[Measured]
    units: Units
    references: Mapping[str, Tensor]
    shared: frozenset[Weights]
    notes: Sequence[str]

    def measures(self) -> list[str]:
        """Names of the measures that some run has, costs last, then training costs if some run has LoRAs.

        Those of RARE need a run with a value above 0.
        """
        found = dict.fromkeys(name for run in self.runs for name in run.values)
        shown = [name for name in found if name not in RARE or any(map(any, self._values(name)))]
        training = dict.fromkeys(name for run in self.runs for name in self._training(run))
        return [*sorted(shown, key=lambda name: name in COSTS), *training]

    def _values(self, measure: str) -> list[list[float]]:
        return [values for run in self.runs for values in run.values.get(measure, {}).values()]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each run and measure, with the keys COLUMNS.

        None stands where a value isn't defined. Training costs are totals, without intervals and prompts, and None
        where they are not known.
        """
        return [row for run in self.runs for row in (*self._rows_of_fronts(run), *self._rows_of_training(run))]

    def _rows_of_fronts(self, run: Measured) -> Iterator[dict[str, Any]]:
        first = self.runs[0]
        for measure in self.measures():
            if measure in run.values:
                yield {
                    "run": run.name,
                    "measure": measure,
                    **estimate(run.values[measure]),
                    "prompts": len(run.values[measure]),
                    **difference(run.values[measure], {} if run is first else first.values.get(measure, {})),
                }

    def _rows_of_training(self, run: Measured) -> Iterator[dict[str, Any]]:
        first = self.runs[0]
        for measure, total_cost in self._training(run).items():
            other = None if run is first else self._training(first)[measure]
            more = None if total_cost is None or other is None else total_cost - other
            known = {"run": run.name, "measure": measure, "mean": total_cost, "difference": more}
            yield dict.fromkeys(COLUMNS) | known

    def _training(self, run: Measured) -> dict[str, float | None]:
        """Training costs of a run by measure. There are none where no run has LoRAs."""
        return training_costs(run.run) if any(each.run.adapters for each in self.runs) else {}


def estimate(by_prompt: Mapping[str, Sequence[float]]) -> Estimate:
    """Return the mean over prompts and the ends of its interval, low and high. A single prompt has no interval."""
    found: Estimate = dict(interval(by_prompt))
    return found if len(by_prompt) > 1 else found | {"low": None, "high": None}


def difference(values: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]) -> Estimate:
    """Return the mean of values minus others, paired by prompt, and its interval. None where no prompt has both."""
    common = [prompt for prompt in values if prompt in others]
    if not common:
        return dict.fromkeys(DIFFERENCE.values())
    left, right = (prompt_means({prompt: by_prompt[prompt] for prompt in common}) for by_prompt in (values, others))
    paired = estimate({prompt: [value] for prompt, value in zip(common, left - right, strict=True)})
    return {DIFFERENCE[name]: value for name, value in paired.items()}


def as_csv(comparison: Comparison) -> str:
    """Write the rows with a head. Values that aren't defined are empty."""
    rows = ([row[column] for column in COLUMNS] for row in comparison.rows())
    return "".join(map(_csv_line, (COLUMNS, *rows)))


def _csv_line(cells: Iterable[object]) -> str:
    """Encode a row. The csv module quotes line feeds and carriage returns only if its own line end has them."""
    text, end = StringIO(), "\r\n"
    csv.writer(text, lineterminator=end).writerow(cells)
    return text.getvalue().removesuffix(end) + "\n"


def as_json(comparison: Comparison) -> str:
    """Write the rows, and everything that they are computed from. Values that aren't defined are null."""
    units = comparison.units
    content = {
        "rewards": units.rewards,
        "scaling": {
            "source": units.source,
            "unit": units.unit,
            "low": units.low,
            "high": units.high,
            "box": units.corners(),
        },
        "intervals": f"95 %, percentile bootstrap over prompts, {RESAMPLES} resamples",
        "differences_to": comparison.runs[0].run.name,
        "utility_over": [dict(zip(units.rewards, weights, strict=True)) for weights in sorted(comparison.shared)],
        "notes": comparison.notes,
        "measures": comparison.rows(),
        "runs": {run.name: _details(run, units.rewards) for run in comparison.runs},
        "reference_fronts": {prompt: points.tolist() for prompt, points in comparison.references.items()},
        "versions": {name: version(name) for name in ("torch", "torchmetrics", "moocore", "numpy", "pillow")}
        | {"srsoup-lightning": __version__, "python": platform.python_version()},
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _details(measured: Measured, rewards: tuple[str, ...]) -> dict[str, Any]:
    run = measured.run
    queries = total(run.costs).queries
    return {
        "path": str(run.root),
        "pictures": len(run.images),
        "fronts": len(run.fronts()),
        "seeds": sorted({seed for _, seed in run.fronts()}),
        "devices": sorted({cost.ledger.device for cost in run.costs}),
        "total_queries": {name: queries.get(name, 0) for name in rewards},
        "utility_by_preference": [
            {"preference": dict(zip(rewards, weights, strict=True)), **estimate(_utilities(weights, means))}
            for weights, means in measured.means.items()
            if weights
        ],
        **({"adapters": [asdict(adapter) for adapter in run.adapters]} if run.adapters else {}),
    }


def _utilities(weights: Weights, means: Mapping[str, Tensor]) -> dict[str, list[float]]:
    return {prompt: [float(mean @ torch.tensor(weights, dtype=mean.dtype))] for prompt, mean in means.items()}
