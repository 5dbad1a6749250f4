"""Tables of the adapters, and where training begins to pay: ``python -m benchmarks.adapters_report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jsonargparse import auto_cli
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.adapters import RESULTS
from benchmarks.figures import save

HEADS = ("method", "hypervolume", "utility", "queries a soup", "evaluations a soup", "training queries", "diversity")
MOST = 1_000  # prompts on the axis of the figure
STYLES = ("-", "--", ":", "-.")


class Method(NamedTuple):
    """Means of a method.

    Attributes:
        name: Name.
        measures: Row of each measure, by name.
    """

    name: str
    measures: dict[str, dict[str, Any]]

    def mean(self, measure: str) -> float:
        """Mean of a measure, 0 where there is none."""
        return self.measures.get(measure, {}).get("mean") or 0.0

    def cell(self, measure: str) -> str:
        """Mean and interval of a measure."""
        row = self.measures[measure]
        ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
        return f"{row['mean']:.3f}{ends}"


def main(results: Path = RESULTS, figure: Path = Path("docs/images/adapters.svg")) -> None:
    """Write the tables, and the figure as SVG and PNG.

    Args:
        results: Folder of the rows of ``benchmarks.adapters``.
        figure: Where the figure goes.
    """
    tables, found = [], {}
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text())
        found[content["prompts"]] = methods = methods_of(content["rows"])
        about = f"seeds {content['seeds']} of each prompt, {content['dtype']}, {content['machine']}"
        tables.append(f"## Animals that were {content['prompts']}\n\n{about}.\n\n{as_markdown(methods)}")
    (results / "tables.md").write_text("# Adapters and search\n\n" + "\n\n".join(tables) + "\n")
    if "held out" in found:
        save(draw(found["held out"]), figure)


def methods_of(rows: list[dict[str, Any]]) -> list[Method]:
    """The methods of rows, by falling utility."""
    methods: dict[str, Method] = {}
    for row in rows:
        methods.setdefault(row["run"], Method(row["run"], {})).measures[row["measure"]] = row
    return sorted(methods.values(), key=lambda method: -method.mean("utility"))


def as_markdown(methods: list[Method]) -> str:
    """A table with a row for each method."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for method in methods:
        costs = [f"{method.mean(name):,.0f}" for name in ("queries", "nfe", "training_queries")]
        cells = [method.name, method.cell("hypervolume"), method.cell("utility"), *costs, method.cell("diversity")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(methods: list[Method]) -> Figure:
    """Queries in all over the number of prompts: a line for methods of one cost, whose colour is their best utility."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    prompts = np.geomspace(1, MOST, 60)
    lines: dict[tuple[float, float], list[Method]] = {}
    for method in methods:
        costs = (method.mean("training_queries"), method.mean("queries"))
        if any(costs):
            lines.setdefault(costs, []).append(method)
    highest = max(method.mean("utility") for method in methods)
    for number, ((training, each), alike) in enumerate(lines.items()):
        label = "\n".join(f"{method.mean('utility'):.2f}  {method.name}" for method in alike)
        colour = colormaps["viridis_r"](alike[0].mean("utility") / highest)
        axes.plot(prompts, training + prompts * each, color=colour, linestyle=STYLES[number % len(STYLES)], label=label)
    axes.set(xscale="log", yscale="log", xlabel="prompts served, six preferences each")
    axes.set_ylabel("queries, training included")
    axes.grid(alpha=0.3)
    axes.legend(title="utility on held-out animals", fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


if __name__ == "__main__":
    auto_cli(main)
