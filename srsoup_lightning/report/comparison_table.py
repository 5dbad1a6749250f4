"""A comparison as CSV, as JSON and as a table in the terminal."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from io import StringIO
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from srsoup_lightning.pareto.bootstrap import RESAMPLES
from srsoup_lightning.report.comparison import COLUMNS, Comparison, estimate
from srsoup_lightning.report.measures import Measured, Weights
from srsoup_lightning.terminal import literal
from srsoup_lightning.version import __version__


def as_csv(comparison: Comparison) -> str:
    """The rows, with a head; what isn't defined is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(comparison.rows())
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """The rows and all that they rest on; what isn't defined is null."""
    scaling = comparison.scaling
    told = {
        "rewards": scaling.rewards,
        "scaling": {
            "source": scaling.source,
            "unit": scaling.unit,
            "low": scaling.low,
            "high": scaling.high,
            "box": scaling.corners(),
        },
        "intervals": f"95 %, percentile bootstrap over prompts, {RESAMPLES} resamples",
        "differences_to": comparison.runs[0].run.name,
        "utility_over": [dict(zip(scaling.rewards, weights, strict=True)) for weights in sorted(comparison.shared)],
        "notes": comparison.notes,
        "measures": comparison.rows(),
        "runs": {run.name: _details(run, scaling.rewards) for run in comparison.runs},
        "reference_fronts": {prompt: points.tolist() for prompt, points in comparison.references.items()},
        "versions": {name: version(name) for name in ("torch", "torchmetrics", "moocore", "numpy", "pillow")}
        | {"srsoup-lightning": __version__, "python": platform.python_version()},
    }
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _details(run: Measured, rewards: tuple[str, ...]) -> dict[str, Any]:
    costs = run.run.costs
    return {
        "path": str(run.run.root),
        "pictures": len(run.run.pictures),
        "fronts": len(run.run.fronts()),
        "seeds": sorted({picture.seed for picture in run.run.pictures}),
        "devices": sorted({cost["device"] for cost in costs}),
        "total_queries": {name: sum(cost["queries"].get(name, 0) for cost in costs) for name in rewards},
        "utility_by_preference": [
            {"preference": dict(zip(rewards, weights, strict=True)), **estimate(_utilities(weights, places))}
            for weights, places in run.places.items()
            if weights
        ],
    }


def _utilities(weights: Weights, places: Mapping[str, Tensor]) -> dict[str, list[float]]:
    return {prompt: [float(place @ torch.tensor(weights).to(place))] for prompt, place in places.items()}


def as_table(comparison: Comparison) -> Table:
    """A row a measure and a column a run, intervals below means."""
    table = Table(title="means over prompts, 95 % bootstrap intervals below", show_lines=True)
    table.add_column("measure", no_wrap=True)
    for run in comparison.runs:
        table.add_column(literal(run.name), justify="right")
    cells = {(row["run"], row["measure"]): _cell(row) for row in comparison.rows()}
    for measure in comparison.measures():
        table.add_row(literal(measure), *(cells.get((run.name, measure), "") for run in comparison.runs))
    return table


def _cell(row: Mapping[str, Any]) -> str:
    mean, *ends = (_number(row[key]) for key in ("mean", "low", "high") if row[key] is not None)
    return mean if set(ends) <= {mean} else f"{mean}\n{'…'.join(ends)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 6):.3g}"
