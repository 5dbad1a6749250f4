"""The table at the end of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from rich.table import Table

from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.pareto import Hypervolume
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.terminal import literal, printable

Box = Mapping[str, Sequence[float]]
Preference = tuple[tuple[str, float], ...]  # pairs of reward and weight


def mean_rewards(rows: Sequence[Mapping[str, Any]]) -> dict[Preference, dict[str, float]]:
    """Each preference's mean rewards {name: score} over its pictures, from the rows of samples.jsonl."""
    groups: dict[Preference, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row["preference"].items())].append(row["rewards"])
    return {
        preference: {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}
        for preference, scores in groups.items()
    }


def rewards_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Preference by mean reward, from the rows of samples.jsonl (at least one)."""
    means = mean_rewards(rows)
    table = Table(title=f"mean over {len(rows) // len(means)} soups")
    table.add_column("preference")
    for name in rows[0]["rewards"]:
        table.add_column(literal(name), justify="right")
    for preference, scores in means.items():
        label = ", ".join(f"{name} {weight:.3g}" for name, weight in preference)
        table.add_row(literal(label), *(f"{scores[name]:.3f}" for name in rows[0]["rewards"]))
    return table


def mean_hypervolume(rows: Sequence[Mapping[str, Any]], box: Box | None = None) -> float:
    """Mean over soups of the scaled hypervolume of their pictures' rewards.

    Args:
        rows: Rows of samples.jsonl, at least one.
        box: {reward: [low, high]}, the box that has volume 1; None takes the rows' own extremes.

    Raises:
        ValueError: Box that leave out a reward.
    """
    names = list(rows[0]["rewards"])
    if box is None:
        columns = {name: [row["rewards"][name] for row in rows] for name in names}
        box = {name: (min(column), max(max(column), min(column) + 1e-9)) for name, column in columns.items()}
    fronts: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for row in rows:
        fronts[row["prompt"], row["seed"]].append([row["rewards"][name] for name in names])
    metric = hypervolume_box(names, box)
    for points in fronts.values():
        metric.update(torch.tensor(points))
    return float(metric.compute())


def hypervolume_box(names: Sequence[str], box: Box) -> Hypervolume:
    """The metric over points whose rewards are `names`, in the box of `box` {reward: [low, high]}.

    Raises:
        ValueError: Box that leave out a reward, or whose low isn't below high.
    """
    missing = sorted(set(names) - set(box))
    if missing:
        raise ValueError(f"box leave out {missing}: give [low, high] for each of {list(names)}")
    low, high = ([box[name][side] for name in names] for side in (0, 1))
    return Hypervolume(low, high, sync_on_compute=False)  # one process sees the whole run; no other comes to compare


def scores_table(rows: Sequence[Mapping[str, Any]], ledger: Ledger) -> Table:
    """What pictures scored, and what asking about them cost.

    Args:
        rows: Rows with rewards {name: score}, at least one.
        ledger: What this command asked.
    """
    table = Table(title=f"{len(rows)} pictures")
    for heading in ("reward", "mean", "std", "lowest", "highest", "asked", "known", "no score"):
        table.add_column(heading, justify="left" if heading == "reward" else "right")
    for name in rows[0]["rewards"]:
        scores = torch.tensor([row["rewards"][name] for row in rows], dtype=torch.float64)
        numbers = (scores.mean(), scores.std(correction=0), scores.min(), scores.max())
        counts = (ledger.queries[name], ledger.hits[name], ledger.failures[name])
        table.add_row(literal(name), *(f"{number:.4g}" for number in numbers), *(f"{count:,}" for count in counts))
    return table


def cost_lines(run: RunDirectory, rows: Sequence[Mapping[str, Any]], box: Box | None = None) -> str:
    """What a run with at least one soup came to: hypervolume, mean cost of a soup, and where the pictures are.

    Args:
        run: The run.
        rows: Its rows of samples.jsonl.
        box: {reward: [low, high]}, the box of the hypervolume; None takes the run's own extremes.

    Raises:
        ValueError: Box that leave out a reward.
    """
    costs = list(run.ledger_rows())

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(costs)

    box = "this run's extremes" if box is None else "the given box"
    queries = ", ".join(
        f"{mean(cost['queries'][name] for cost in costs):,.0f} queries of {name}{_apart(name, costs)}"
        for name in costs[0]["queries"]
    )
    lines = [
        f"hypervolume  {mean_hypervolume(rows, box):.3f}, mean over soups, in the box of {box}",
        f"cost a soup  {queries}, {mean(cost['nfe'] for cost in costs):,.0f} network evaluations, "
        f"{mean(cost['decodes'] for cost in costs):,.0f} decodes, "
        f"{mean(cost['seconds'] for cost in costs):.1f} s on {costs[0]['device']}",
        f"pictures     {run.samples.parent / 'samples'}",
        f"sheets       {run.sheets}",
    ]
    return "\n".join(map(printable, lines))


def spending_line(account: Account) -> str:
    """What a run has spent of its limits and budgets; "" if it has none."""
    spent = ", ".join(
        f"{round(amount, 2):,} of {account.bounds[name]:,} {name}"
        for name, amount in account.spent().items()
        if account.bounds[name] < math.inf
    )
    return spent and f"spent        {spent}"


def _apart(name: str, costs: Sequence[Mapping[str, Any]]) -> str:
    """What is no query: answers from memory and pictures without a score, of all soups, where there are any."""
    counts = {
        "answers from memory": sum(cost["hits"][name] for cost in costs),
        "without a score in the run": sum(cost["failures"][name] for cost in costs),
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f" ({said})" if said else ""
