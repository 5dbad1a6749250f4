"""Texts and tables of a run that loggers show: its config, the mean rewards of each preference, and the costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.report.measures import mean_rewards
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import total

Cell = float | str


class TextTable(NamedTuple):
    """Table of texts and numbers.

    Attributes:
        columns: Headings.
        rows: Cells of each row, one for each column.
    """

    columns: list[str]
    rows: list[list[Cell]]

    def markdown(self) -> str:
        """Return the table in Markdown. Numbers have four digits, and counts all of theirs."""
        rule = [":-" if _is_text(column) else "-:" for column in zip(*self.rows, strict=True)]
        lines: list[list[Cell]] = [[*self.columns], [*rule], *self.rows]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def config_markdown(run: RunDirectory) -> str:
    """Return what a run was started with in Markdown: its config, or its identity where it has none, or "".

    A config that is older than the identity is of another run: the command line writes it after the identity.
    """
    times = [path.stat().st_mtime if path.is_file() else 0.0 for path in (run.config, run.identity)]
    if not any(times):
        return ""
    path, language = (run.config, "yaml") if times[0] >= times[1] else (run.identity, "json")
    return f"{path.name}\n\n```{language}\n{path.read_text(encoding='utf-8')}\n```"


def preferences_table(run: Run) -> TextTable:
    """Return a table of the mean rewards of each preference, for a run with at least one image."""
    rows: list[list[Cell]] = []
    for weights, scores in mean_rewards(run).items():
        label = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(run.rewards, weights, strict=False))
        rows.append([label or "unknown", *scores.values()])
    return TextTable(["preference", *run.scored], rows)


def costs_table(run: Run) -> TextTable:
    """Return a table of the costs of a run with at least one cost row: in total, and as the mean of a soup."""
    rows: list[list[Cell]] = [[name, count, count / len(run.costs)] for name, count in costs(total(run.costs)).items()]
    return TextTable(["cost", f"{len(run.costs):,} soups", "a soup"], rows)


def total_costs(ledger: Ledger) -> dict[str, float]:
    """Return the costs that every method has, by name."""
    return {"queries": ledger.total_queries, "network evaluations": ledger.nfe, "seconds": ledger.seconds}


def costs(ledger: Ledger) -> dict[str, float]:
    """Return all costs by name. Hits, failures and gradient evaluations are left out where there are none."""
    seldom = {
        **{f"hits of {name}": count for name, count in ledger.hits.items()},
        **{f"failures of {name}": count for name, count in ledger.failures.items()},
        "gradient evaluations": ledger.gradients,
    }
    return {
        **total_costs(ledger),
        **{f"queries of {name}": count for name, count in ledger.queries.items()},
        **{name: count for name, count in seldom.items() if count},
        "decodes": ledger.decodes,
    }


def _is_text(column: Iterable[Cell]) -> bool:
    return any(isinstance(cell, str) for cell in column)


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"
