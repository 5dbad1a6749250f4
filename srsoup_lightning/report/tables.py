"""Tables and lines that commands show in the terminal when they are done."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from rich.table import Table

from srsoup_lightning.costs.account import Account
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.report.measures import mean_hypervolume, mean_rewards
from srsoup_lightning.report.units import Box, box_text, extremes
from srsoup_lightning.runs.adapter import UsedAdapter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import ImageRow, total
from srsoup_lightning.terminal import literal, printable


def rewards_table(run: Run) -> Table:
    """Return a table of the mean rewards of each preference, for a run with at least one image."""
    means = mean_rewards(run)
    table = Table(title=f"mean over {len(run.images) // len(means)} soups")
    table.add_column("preference")
    for name in run.scored:
        table.add_column(literal(name), justify="right")
    for weights, scores in means.items():
        label = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(run.rewards, weights, strict=True))
        table.add_row(literal(label), *(f"{score:.3f}" for score in scores.values()))
    return table


def scores_table(rows: Sequence[ImageRow], ledger: Ledger) -> Table:
    """Return a table of scores and of the queries that they took.

    Args:
        rows: Rows with rewards, at least one.
        ledger: Costs of this command.
    """
    table = Table(title=f"{len(rows)} pictures")
    for heading in ("reward", "mean", "std", "lowest", "highest", "asked", "known", "no score"):
        table.add_column(heading, justify="left" if heading == "reward" else "right")
    for name in rows[0].rewards:
        scores = torch.tensor([row.rewards[name] for row in rows], dtype=torch.float64)
        numbers = (scores.mean(), scores.std(correction=0), scores.min(), scores.max())
        counts = (ledger.queries[name], ledger.hits[name], ledger.failures[name])
        table.add_row(literal(name), *(f"{number:.4g}" for number in numbers), *(f"{count:,}" for count in counts))
    return table


def cost_lines(run: Run, box: Box | None = None) -> str:
    """Return the hypervolume of a run with at least one soup, the mean cost of a soup, and the places of the pictures.

    Args:
        run: The run.
        box: Box of the hypervolume. None takes the extremes of the run itself.
    """
    directory = RunDirectory(run.root)
    source = f"its own extremes, {box_text(extremes([run]))}" if box is None else f"the box {box_text(box)}"
    lines = [
        f"hypervolume  {mean_hypervolume(run, box):.3f}, mean over soups, in {source}",
        f"cost a soup  {_costs(total(run.costs), len(run.costs))}",
        *(f"training     {_training(adapter)}" for adapter in run.adapters),
        f"pictures     {directory.root / 'samples'}",
        f"sheets       {directory.sheets}",
    ]
    return "\n".join(map(printable, lines))


def _costs(spent: Ledger, soups: int = 1) -> str:
    """Return costs in words, each divided by the number of soups."""
    counts = {f"queries of {name}{_no_queries(name, spent)}": count for name, count in spent.queries.items()}
    counts["network evaluations"] = spent.nfe
    if spent.gradients:
        counts["gradient evaluations"] = spent.gradients
    counts["decodes"] = spent.decodes
    told = [f"{count / soups:,.0f} {name}" for name, count in counts.items()]
    return f"{', '.join(told)}, {spent.seconds / soups:.1f} s on {spent.device}"


def _training(adapter: UsedAdapter) -> str:
    facts = adapter.facts
    if facts is None:
        return f"of {adapter.source}: unknown costs"
    return f"of {adapter.source}, {facts.rounds:,} rounds of {facts.objective}: {_costs(facts.total)}"


def spending_line(account: Account) -> str:
    """Return the amounts that a run has spent of its limits and budgets; "" if it has none."""
    spent = ", ".join(
        f"{round(amount, 2):,} of {account.limits[name]:,} {name}"
        for name, amount in account.spent().items()
        if account.limits[name] < math.inf
    )
    return spent and f"spent        {spent}"


def _no_queries(name: str, spent: Ledger) -> str:
    """Return the answers of a reward that are no queries, in parentheses: cached scores, and missing scores."""
    counts = {
        "answers from memory": spent.hits.get(name, 0),
        "without a score in the run": spent.failures.get(name, 0),
    }
    told = ", ".join(f"{count:,} {answers}" for answers, count in counts.items() if count)
    return f" ({told})" if told else ""
