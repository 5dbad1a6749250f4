"""Tables of the adapters, and where training begins to pay: ``python -m benchmarks.adapters_report``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.adapters import KEPT, RESULTS
from benchmarks.figures import save
from benchmarks.soup_rows import Row, Values, circumstances, interval, mean, methods_of, number
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import grouped

HEADS = (
    *("method", "hypervolume", "utility", "queries a soup", "evaluations a soup", "training queries", "diversity"),
    *("monotonicity, jpeg", "monotonicity, clip", "colour, held out"),
)
MOST = 1_000  # prompts on the axis of the figure
STYLES = ("-", "--", ":", "-.")


def main(results: Path = RESULTS, figure: Path = Path("docs/images/adapters.svg")) -> None:
    """Write the tables, and the figure as SVG and PNG.

    Args:
        results: Folder of the rows of ``benchmarks.adapters``.
        figure: Where the figure goes.
    """
    rows = [row for _, row in read_rows(results / "soups.jsonl")]
    found = {label: methods_of(theirs, KEPT, "utility") for label, theirs in grouped(rows, _prompts).items()}
    tables = [
        f"## Animals that were {label}\n\n{circumstances(theirs)}\n\n{as_markdown(found[label])}"
        for label, theirs in grouped(rows, _prompts).items()
    ]
    (results / "tables.md").write_text("# Adapters and search\n\n" + "\n\n".join(tables) + "\n")
    if "held out" in found:
        save(draw(found["held out"]), figure)


def _prompts(row: Row) -> str:
    return str(row["prompts"])


def as_markdown(methods: dict[str, Values]) -> str:
    """A table with a row for each method."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for name, values in methods.items():
        costs = [f"{mean(values, cost):,.0f}" for cost in ("queries", "nfe", "training_queries")]
        along = [number(values, f"monotonicity_{reward}", 2) for reward in ("jpeg", "clip")]
        cells = [name, interval(values, "hypervolume"), interval(values, "utility"), *costs]
        cells += [interval(values, "diversity"), *along, f"{mean(values, 'mean_colour'):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(methods: dict[str, Values]) -> Figure:
    """Queries in all over the number of prompts: a line for methods of one cost, whose colour is their best utility."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    prompts = np.geomspace(1, MOST, 60)
    utility = {name: mean(values, "utility") for name, values in methods.items()}
    lines: dict[tuple[float, float], list[str]] = {}
    for name, values in methods.items():
        costs = (mean(values, "training_queries"), mean(values, "queries"))
        if any(costs):
            lines.setdefault(costs, []).append(name)
    highest = max(utility.values())
    for place, ((training, each), alike) in enumerate(lines.items()):
        label = "\n".join(f"{utility[name]:.2f}  {name}" for name in alike)
        colour = colormaps["viridis_r"](utility[alike[0]] / highest)
        axes.plot(prompts, training + prompts * each, color=colour, linestyle=STYLES[place % len(STYLES)], label=label)
    axes.set(xscale="log", yscale="log", xlabel="prompts served, eleven preferences each")
    axes.set_ylabel("queries, training included")
    axes.grid(alpha=0.3)
    axes.legend(title="utility on held-out animals", fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


if __name__ == "__main__":
    auto_cli(main)
