"""Layout of the table of a comparison: words and numbers of each cell, the same for every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.meanings import Better, meaning_of
from srsoup_lightning.runs.reading import Run


class Cell(NamedTuple):
    """Value of a run.

    Attributes:
        mean: Mean over prompts, "unknown" where it isn't known, or "" where the measure isn't defined.
        interval: Ends of its interval, or "" without one.
        prompts: "2 prompts" where the mean is over fewer than all, and else "".
        best: Whether it is the best of several different values.
    """

    mean: str
    interval: str = ""
    prompts: str = ""
    best: bool = False


class Line(NamedTuple):
    """Line of the table: a measure, which of its values is better, its unit, and a cell for each run."""

    measure: str
    better: Better | None
    unit: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Layout:
    """Table of a comparison.

    Attributes:
        prompts: Number of prompts.
        runs: Name of each run, and the size of its sample in words.
        lines: A line for each measure.
        remarks: Sentences that are needed to read the numbers right, the box of the hypervolume first.
    """

    prompts: int
    runs: Sequence[tuple[str, str]]
    lines: Sequence[Line]
    remarks: Sequence[str]

    def title(self, where: str) -> str:
        """Return the title, which tells where the intervals stand: "below" the means, for example."""
        intervals = f", 95 % bootstrap intervals {where}" if self.prompts > 1 else ""
        return f"means over {_count(self.prompts, 'prompt')}{intervals}, the best in bold"


def layout(comparison: Comparison, measures: Sequence[str] | None = None) -> Layout:
    """Lay out the table of a comparison.

    Args:
        comparison: The comparison.
        measures: Names of the measures to show, in their order. None shows all.

    Raises:
        ValueError: The comparison has no such measure.
    """
    known = comparison.measures()
    if unknown := [name for name in measures or () if name not in known]:
        raise ValueError(f"there is no measure {unknown[0]!r} in this comparison: give some of {', '.join(known)}")
    rows = {(row["run"], row["measure"]): row for row in comparison.rows()}
    prompts = len(comparison.runs[0].run.prompts)
    runs = [measured.run for measured in comparison.runs]
    lines = []
    for measure in known if measures is None else measures:
        better, unit = meaning_of(measure, comparison.units.unit)
        found = [rows.get((run.name, measure)) for run in runs]
        best = _best([row["mean"] for row in found if row is not None], better)
        lines.append(Line(measure, better, unit, [_cell(row, prompts, best) for row in found]))
    box = f"box of the hypervolume: {comparison.units.box_text()}"
    return Layout(prompts, [(run.name, _sample(run)) for run in runs], lines, [box, *comparison.notes])


def _best(values: Sequence[float | None], better: Better | None) -> str | None:
    """Return the best value as it is written; None where no value is better than another."""
    known = [value for value in values if value is not None]
    if better is None or len({written(value) for value in known}) < 2:
        return None
    return written(max(known) if better == "higher" else min(known))


def _cell(row: Mapping[str, Any] | None, prompts: int, best: str | None) -> Cell:
    if row is None:
        return Cell("")
    if row["mean"] is None:
        return Cell("unknown")
    mean, *ends = (written(row[key]) for key in ("mean", "low", "high") if row[key] is not None)
    fewer = "" if row["prompts"] in (None, prompts) else _count(row["prompts"], "prompt")
    return Cell(mean, "" if set(ends) <= {mean} else " to ".join(ends), fewer, mean == best)


def written(value: float) -> str:
    """Write a value with three digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 6) + 0.0:.3g}"  # + 0.0: no -0


def _sample(run: Run) -> str:
    counts = sorted({len(images) for images in run.fronts().values()})
    pictures = _count(counts[0], "picture") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} pictures"
    return f"{_count(len(run.fronts()), 'front')} of {pictures}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
