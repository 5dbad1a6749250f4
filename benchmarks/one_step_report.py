"""Table and figure of the one-step rows: ``python -m benchmarks.one_step_report``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from jsonargparse import auto_cli
from matplotlib.figure import Figure

from benchmarks.figures import save
from benchmarks.one_step import RESULTS
from benchmarks.query_efficiency import read_rows
from srsoup_lightning.pareto import interval

Row = dict[str, float | str]
MEASURES = {"gain": "weighted rewards", "jpeg": "jpeg, whatever its weight", "clip": "clip, whatever its weight"}


def main(
    rows: Path = RESULTS,
    table: Path = Path("benchmarks/results/one_step.md"),
    figure: Path = Path("docs/images/one_step.svg"),
    parts: list[int] = [4, 8, 12, 20],  # noqa: B006 - jsonargparse shows the default
    baseline: str = "WeightedSum, N = 16",
) -> None:
    """Write the table, and the figure as SVG and PNG.

    Args:
        rows: The rows of ``benchmarks.one_step``.
        table: Where the table goes.
        figure: Where the figure goes.
        parts: Limits of the parts of the trajectory that a row of the table averages.
        baseline: The way that others are compared with, soup by soup and step by step.
    """
    found = read_rows(rows)
    table.write_text(as_markdown(found, parts, baseline) + "\n")
    save(draw(found), figure)


def as_markdown(rows: Sequence[Row], parts: Sequence[int], baseline: str) -> str:
    """A row a measure and way: its mean gain in each part of the trajectory, and the difference to the baseline's."""
    spans = list(pairwise(parts))
    heads = [f"steps {low} to {high - 1}{what}" for low, high in spans for what in ("", ", difference")]
    lines = [f"| measure | way | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for measure, name in MEASURES.items():
        for way in dict.fromkeys(row["way"] for row in rows):
            cells = []
            for low, high in spans:
                within = [row for row in rows if low <= row["step"] < high]
                own, theirs = (_by_soup(within, each, measure) for each in (way, baseline))
                less = {key: value - theirs[key] for key, value in own.items() if key in theirs}
                cells += [_interval(own), _interval(less)]
            lines.append(f"| {name} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_soup(rows: Sequence[Row], way: str, measure: str) -> dict[tuple, float]:
    return {(row["prompt"], row["seed"], row["step"]): row[measure] for row in rows if row["way"] == way}


def _interval(gains: dict[tuple, float]) -> str:
    if not gains:
        return ""
    by_prompt = defaultdict(list)
    for (prompt, *_), gain in gains.items():
        by_prompt[prompt].append(gain)
    found = interval(by_prompt)
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def draw(rows: Sequence[Row]) -> Figure:
    """A panel a measure, a curve a way: mean gain of one step over the steps, with its interval over prompts."""
    drawn = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, (measure, title) in zip(drawn.subplots(1, len(MEASURES), sharey=True), MEASURES.items(), strict=True):
        for way in dict.fromkeys(row["way"] for row in rows):
            by_step: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for row in rows:
                if row["way"] == way:
                    by_step[row["step"]][row["prompt"]].append(row[measure])
            steps = sorted(by_step)
            found = [interval(by_step[step]) for step in steps]
            panel.plot(steps, [each["mean"] for each in found], marker="o", markersize=3, label=way)
            panel.fill_between(steps, [each["low"] for each in found], [each["high"] for each in found], alpha=0.15)
        panel.axhline(0, color="0.6", linestyle=":")
        panel.set(xlabel="denoising step", title=title, xticks=steps)
    first = drawn.axes[0]
    first.set_ylabel("gain of one step, standard deviations")
    first.legend(fontsize="x-small")
    return drawn


if __name__ == "__main__":
    auto_cli(main)
