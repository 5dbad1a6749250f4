"""Tables and figures of the query-efficiency rows: ``python -m benchmarks.query_efficiency_report``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from jsonargparse import auto_cli
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.figures import save
from benchmarks.query_efficiency import METHODS, RESULTS
from srsoup_lightning.pareto import interval, ratio_interval

Values = dict[str, dict[int, float]]  # prompt -> seed -> value
Rows = dict[str, dict[str, Values]]  # method -> measure -> values
UNSTEERED = "BaseModel"
COSTS = {"queries": "reward queries a soup", "nfe": "network evaluations a soup"}


def main(
    results: Path = RESULTS,
    figure: Path | None = Path("docs/images/query_efficiency.svg"),
    drawn_settings: list[str] = ["two rewards", "three rewards"],  # noqa: B006 - jsonargparse shows the default
    baselines: list[str] = ["WeightedSum, N = 16", "WeightedSum, N = 30"],  # noqa: B006
) -> None:
    """Write ``tables.md`` into `results`, and the figure as SVG and PNG.

    Args:
        results: Folder of the rows.
        figure: Where the figure goes; null draws none.
        drawn_settings: What the figure shows.
        baselines: Methods that all others are compared with, prompt by prompt.
    """
    by_setting = _load(results / "soups.jsonl")
    tables = [f"### {setting}\n\n{as_markdown(rows, baselines)}" for setting, rows in by_setting.items()]
    (results / "tables.md").write_text("\n\n".join(tables) + "\n")
    if figure is None:
        return
    save(draw({setting: by_setting[setting] for setting in drawn_settings}, baselines[0]), figure)


def _load(path: Path) -> dict[str, Rows]:
    settings: dict[str, Rows] = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(dict))))
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for measure, value in row.items():
            if isinstance(value, int | float) and measure not in ("seed", "threads"):
                settings[row["setting"]][row["method"]][measure][row["prompt"]][row["seed"]] = value
    return settings


def _mean(values: Values) -> dict[str, float]:
    return interval({prompt: list(by_seed.values()) for prompt, by_seed in values.items()})


def ratio(above: Values, below: Values) -> dict[str, float]:
    """Ratio of two methods' means with its interval, over the soups of the same prompts and seeds."""
    both = {prompt: above[prompt].keys() & below[prompt].keys() for prompt in above.keys() & below.keys()}
    shared = {prompt: sorted(both[prompt]) for prompt in below if both.get(prompt)}
    numerator, denominator = (
        {prompt: [values[prompt][seed] for seed in seeds] for prompt, seeds in shared.items()}
        for values in (above, below)
    )
    return ratio_interval(numerator, denominator)


def in_order(rows: Rows) -> list[str]:
    """The methods of some rows, those of METHODS in its order first."""
    return [*(name for name in METHODS if name in rows), *(name for name in rows if name not in METHODS)]


def as_markdown(rows: Rows, baselines: list[str]) -> str:
    """A row a method, with its ratios to the baselines."""
    ratios = [f"{measure} / {name}" for name in baselines for measure in ("utility", "hypervolume")]
    heads = [
        "method",
        "soups",
        "utility",
        "hypervolume",
        "queries",
        "network evaluations",
        "neighbours differ",
        *ratios,
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for method in in_order(rows):
        found = rows[method]
        cells = [str(sum(map(len, found["queries"].values())))]
        cells += [_spread(_mean(found[measure]), 3) for measure in ("utility", "hypervolume")]
        cells += [f"{_mean(found[cost])['mean']:,.0f}" for cost in COSTS]
        cells.append(f"{_mean(found['smoothness'])['mean']:.3f}")
        cells += [
            _spread(ratio(found[measure], rows[baseline][measure]), 2) if baseline in rows else ""
            for baseline in baselines
            for measure in ("utility", "hypervolume")
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(value: dict[str, float], digits: int) -> str:
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _family(method: str) -> str:
    """Its name but for the number of candidates, or of pictures."""
    return re.sub(r", N = .*|(?<=BestOfN)\(.*", "", method)


# A family looks the same in all panels, whichever others are drawn there. After ten families, colours are used again.
STYLES = {
    family: {"color": f"C{number}", "marker": "osD"[number // 10]}
    for number, family in enumerate(dict.fromkeys(map(_family, METHODS)))
}


def draw(by_setting: dict[str, Rows], baseline: str) -> Figure:
    """A row of panels a setting: hypervolume as a share of the baseline's, against queries and network evaluations."""
    drawn = Figure(figsize=(10, 3.6 * len(by_setting)), layout="constrained")
    panels = drawn.subplots(len(by_setting), len(COSTS), squeeze=False)
    for (setting, rows), line in zip(by_setting.items(), panels, strict=True):
        for (cost, label), panel in zip(COSTS.items(), line, strict=True):
            _panel(panel, rows, cost, baseline)
            panel.set(xlabel=label, ylabel=f"hypervolume / {baseline}", title=setting, xscale="log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            panel.xaxis.set_minor_formatter(NullFormatter())
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=4)
    return drawn


def _panel(panel: Axes, rows: Rows, cost: str, baseline: str) -> None:
    """One line a family of methods that differ in their number of candidates alone; the unsteered model is a level."""
    families: dict[str, list[tuple[float, dict[str, float]]]] = defaultdict(list)
    for method in in_order(rows):
        share = ratio(rows[method]["hypervolume"], rows[baseline]["hypervolume"])
        families[_family(method)].append((_mean(rows[method][cost])["mean"], share))
    for family, points in families.items():
        points.sort(key=lambda point: point[0])
        if family == UNSTEERED:
            panel.axhline(points[0][1]["mean"], color="0.6", linestyle=":", label=family)
            continue
        means = [share["mean"] for _, share in points]
        errors = [[v["mean"] - v["low"] for _, v in points], [v["high"] - v["mean"] for _, v in points]]
        panel.errorbar(
            [spent for spent, _ in points],
            means,
            errors,
            capsize=2,
            label=family,
            **STYLES.get(family, {"marker": "o"}),
        )


if __name__ == "__main__":
    auto_cli(main)
