"""Results of a run for each preference, as hyperparameters and metrics that TensorBoard's HParams can plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch

from srsoup_lightning.pareto import utility
from srsoup_lightning.report.measures import Weights, mean_hypervolume, mean_rewards
from srsoup_lightning.report.units import Box, box_units
from srsoup_lightning.runs.changes import operational_options
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import total

Value = float | str


class HParams(NamedTuple):
    """Hyperparameters and metrics of one preference.

    Attributes:
        preference: Weight by reward name.
        metrics: Result by metric name.
    """

    preference: dict[str, float]
    metrics: dict[str, float]


def hparams_of(run: Run, box: Box | None) -> Iterator[HParams]:
    """Yield the mean rewards of each preference over prompts and seeds, with the measures of the complete run.

    Args:
        run: The run, with at least one image and one cost row.
        box: Box in whose units utility and hypervolume are. None leaves both out, for in the extremes of a run itself
            they would not compare with those of another run.
    """
    means, spent = mean_rewards(run), total(run.costs)
    costs = {
        "cost a soup/queries": spent.total_queries / len(run.costs),
        "cost a soup/network evaluations": spent.nfe / len(run.costs),
    }
    measures: list[dict[str, float]] = [{}] * len(means)
    if box is not None:
        volume = mean_hypervolume(run, box)
        measures = [{"utility": value, "hypervolume": volume} for value in _utilities(run, means, box)]
    for (weights, scores), of_front in zip(means.items(), measures, strict=True):
        rewards = {f"reward/{name}": score for name, score in scores.items()}
        yield HParams(dict(zip(run.rewards, weights, strict=True)), rewards | of_front | costs)


def _utilities(run: Run, means: Mapping[Weights, Mapping[str, float]], box: Box) -> list[float]:
    """Return the utility of each preference in units of the box."""
    points = torch.tensor([[scores[name] for name in run.rewards] for scores in means.values()], dtype=torch.float64)
    scale = box_units(run, box, "").scales[run.prompts[0]]
    return utility(scale.standardise(points), torch.tensor(list(means), dtype=torch.float64)).tolist()


def settings_of(method: Any) -> dict[str, Value]:  # noqa: ANN401 - any dataclass
    """Return the name of a method, with its first component (a soup's sharing), and its settings.

    Settings that are None or off are left out, and so are those that do not change any picture. TensorBoard sorts by
    name and shows the first few: "with" comes after "weight".
    """
    operational = operational_options(type(method))
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.name not in operational}
    components = [type(value).__name__ for value in values.values() if is_dataclass(value)]
    return {"method": " ".join([type(method).__name__, *components[:1]])} | {
        f"with/{name}": value if isinstance(value, int | float | str) else str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }
