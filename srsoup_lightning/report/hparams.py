"""What a run comes to for each preference, in numbers that TensorBoard's HParams can plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch

from srsoup_lightning.pareto import Scale, utility
from srsoup_lightning.report.tables import Box, Preference, mean_hypervolume, mean_rewards
from srsoup_lightning.runs.changes import HOW

Value = float | str


class Session(NamedTuple):
    """One preference of a run: its weights, as in the rows, and what came out by metric."""

    preference: dict[str, float]
    metrics: dict[str, float]


def sessions(
    rows: Sequence[Mapping[str, Any]], costs: Sequence[Mapping[str, Any]], box: Box | None
) -> Iterator[Session]:
    """Mean rewards of each preference over prompts and seeds, and what is known of the whole front.

    Args:
        rows: Rows of samples.jsonl, at least one.
        costs: Rows of ledger.jsonl, at least one.
        box: {reward: [low, high]}, the box in whose units utility and hypervolume are; None leaves both out, for in
            the run's own extremes they would compare with no other run.
    """
    means = mean_rewards(rows)
    spent = {
        "cost a soup/queries": sum(sum(cost["queries"].values()) for cost in costs) / len(costs),
        "cost a soup/network evaluations": sum(cost["nfe"] for cost in costs) / len(costs),
    }
    worth: list[dict[str, float]] = [{}] * len(means)
    if box is not None:
        volume = mean_hypervolume(rows, box)
        worth = [{"utility": value, "hypervolume": volume} for value in _utilities(means, box)]
    for (preference, scores), of_front in zip(means.items(), worth, strict=True):
        rewards = {f"reward/{name}": score for name, score in scores.items()}
        yield Session(dict(preference), rewards | of_front | spent)


def _utilities(means: Mapping[Preference, Mapping[str, float]], box: Box) -> list[float]:
    """Each preference's utility in units of the box."""
    rewards = list(next(iter(means.values())))
    points = torch.tensor([[scores[name] for name in rewards] for scores in means.values()], dtype=torch.float64)
    weights = torch.tensor([[dict(preference)[name] for name in rewards] for preference in means], dtype=torch.float64)
    low, high = torch.tensor([list(box[name]) for name in rewards], dtype=torch.float64).unbind(1)
    return utility(Scale(low, high - low).standardise(points), weights).tolist()


def settings_of(method: Any) -> dict[str, Value]:  # noqa: ANN401 - any dataclass
    """What a method is called, with its first part (a soup's policy), and those settings that decide what it makes.

    What is None or off is left out. TensorBoard sorts by name and shows the first few: "with" comes after "weight".
    """
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.name not in HOW}
    parts = [type(value).__name__ for value in values.values() if is_dataclass(value)]
    return {"method": " ".join([type(method).__name__, *parts[:1]])} | {
        f"with/{name}": value if isinstance(value, int | float | str) else str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }
