"""Table and figure of the fine-tuning rows: ``python -m benchmarks.finetuning_report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from jsonargparse import auto_cli
from matplotlib.figure import Figure

from benchmarks.figures import save
from benchmarks.finetuning import RESULTS, RUNS
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import grouped

Row = dict[str, Any]
COLUMNS = 3  # panels in a row of the figure


def main(
    rows: Path = RESULTS,
    table: Path = Path("benchmarks/results/finetuning.md"),
    figure: Path = Path("docs/images/finetuning.svg"),
) -> None:
    """Write the table, and the figure as SVG and PNG.

    Args:
        rows: The rows of ``benchmarks.finetuning``.
        table: Where the table goes.
        figure: Where the figure goes.
    """
    found, order = [row for _, row in read_rows(rows)], list(RUNS)
    found.sort(key=lambda row: (order.index(row["run"]), row["seed"]))
    runs = grouped(found, lambda row: row["run"])
    table.write_text(as_markdown(runs) + "\n")
    save(draw(runs), figure)


def target_of(run: str) -> str:
    """Name of the reward that a run is tuned for."""
    return run.partition(", ")[2]


def as_markdown(runs: dict[str, list[Row]]) -> str:
    """A row for each run: gains of its last validation, seed by seed, and its costs."""
    heads = ["run", "gain of the target", "gain of the held-out reward", "kl", "rounds", "queries", "evaluations"]
    lines = [f"| {' | '.join([*heads, 'gradients', 'minutes'])} |", "|---" * (len(heads) + 2) + "|"]
    for run, rows in runs.items():
        last = [of_seed[-1] for of_seed in _by_seed(rows)]
        target = target_of(run)
        held = [" and ".join(f"{_gain(row, name)} {name}" for name in row["gains"] if name != target) for row in last]
        divergences = ("—" if row["kl"] is None else f"{row['kl']:.2f}" for row in last)
        cells = [run, _each(last, target), ", ".join(held), ", ".join(divergences)]
        cells += [f"{mean(row[name] for row in last):,.0f}" for name in ("round", "queries", "nfe", "gradients")]
        cells.append(f"{mean(row['seconds'] for row in last) / 60:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(runs: dict[str, list[Row]]) -> Figure:
    """Gains of each run by network evaluations: the target, and the rewards that are held out, a line for each seed."""
    height = -(-len(runs) // COLUMNS)
    figure = Figure(figsize=(11, 3 * height), layout="constrained")
    panels = figure.subplots(height, min(COLUMNS, len(runs)), squeeze=False, sharey=True).ravel()
    for panel, (run, rows) in zip(panels, runs.items(), strict=False):
        names = list(rows[0]["gains"])
        for of_seed in _by_seed(rows):
            x = [0, *(row["nfe"] / 1e3 for row in of_seed)]
            for colour, name in enumerate(sorted(names, key=lambda name: name != target_of(run))):
                style = "-" if name == target_of(run) else "--"
                gains = [0, *(row["gains"][name] for row in of_seed)]
                first = of_seed[0]["seed"] == rows[0]["seed"]
                label = f"{name}{'' if style == '-' else ', held out'}" if first else None
                panel.plot(x, gains, style, color=f"C{colour}", label=label, marker=".")
        panel.axhline(0, color="grey", linewidth=0.5)
        panel.set_yscale("symlog", linthresh=2)  # a held-out reward can fall ten times as far as the target rises
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_title(run, fontsize="medium")
        panel.set_xlabel("thousand network evaluations")
        panel.legend(frameon=False)
    for panel in panels[len(runs) :]:
        panel.remove()
    panels[0].set_ylabel("gain in standard deviations\nof the base model, held-out animals")
    return figure


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [[row for row in rows if row["seed"] == seed] for seed in seeds]


def _each(rows: Sequence[Row], name: str) -> str:
    return ", ".join(_gain(row, name) for row in rows)


def _gain(row: Row, name: str) -> str:
    return f"{row['gains'][name]:+.2f}"


if __name__ == "__main__":
    auto_cli(main)
