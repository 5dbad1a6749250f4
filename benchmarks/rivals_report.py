"""Tables of the methods at equal cost, from the rows of their soups: ``python -m benchmarks.rivals_report``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.equal_cost import BACKWARD, COSTS, HELD_OUT, REWARDS
from benchmarks.rivals import KEPT, RESULTS, UNSTEERED
from srsoup_lightning.pareto.bootstrap import prompt_means
from srsoup_lightning.report.comparison import estimate
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import grouped

OURS = ("Auto", "Fast", "Pooled", "SRSoup")
COST_NAMES = {"nfe": "network evaluations", "queries": "queries"}
HEAD = (
    *("method", "hypervolume", "utility", "queries", "network evaluations", "gradients", "of the plan", "diversity"),
    "seconds",
)
Row = Mapping[str, Any]
Method = dict[str, dict[str, list[float]]]  # measure -> prompt -> one value for each seed


def main(results: Path = RESULTS) -> None:
    """Write ``tables.md`` beside the rows.

    Args:
        results: Folder of the rows.
    """
    rows = [row for path in sorted(results.glob("*.jsonl")) for _, row in read_rows(path)]
    order = {setting: index for index, setting in enumerate(REWARDS)}
    rows.sort(key=lambda row: (order[row["setting"]], COSTS.index(row["cost"]), row["budget"]))
    budgets = list(grouped(rows, lambda row: (row["setting"], row["cost"], row["budget"])).values())
    sections = [section(budget) for budget in budgets]
    (results / "tables.md").write_text("\n\n".join([winners(budgets), *sections]) + "\n")


def methods_of(rows: Iterable[Row]) -> dict[str, Method]:
    """Values of each method, the highest hypervolume first."""
    found = {name: _values(theirs) for name, theirs in grouped(rows, lambda row: row["method"]).items()}
    return dict(sorted(found.items(), key=lambda item: -float(prompt_means(item[1]["hypervolume"]).mean())))


def _values(rows: Iterable[Row]) -> Method:
    values: Method = {}
    for row in rows:
        for name in KEPT:
            if name in row:
                values.setdefault(name, {}).setdefault(row["prompt"], []).append(row[name])
    return values


def section(rows: Sequence[Row]) -> str:
    """A table of one budget."""
    first, found = rows[0], methods_of(rows)
    held_out = HELD_OUT[first["setting"]]
    title = f"## {first['setting']}, at most {first['budget']:,} {COST_NAMES[first['cost']]} a soup"
    head = [*HEAD, f"{held_out}, held out"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, method in found.items():
        planned = next(row["nfe_at_most"] for row in rows if row["method"] == name)
        cells = [name, *(_interval(method[each]) for each in ("hypervolume", "utility"))]
        cells += [f"{_mean(method, each):,.0f}" for each in ("queries", "nfe", "gradients")]
        cells += [f"{_mean(method, 'nfe') / planned:.2f}", _interval(method["diversity"])]
        cells += [f"{_mean(method, 'seconds'):.1f}", f"{_mean(method, f'mean_{held_out}'):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([title, "", about(rows), "", *lines])


def about(rows: Sequence[Row]) -> str:
    """How the rows of a budget were made."""
    prompts = {row["prompt"] for row in rows}
    seeds = sorted({len(theirs) for theirs in grouped(rows, lambda row: (row["method"], row["prompt"])).values()})
    each = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seeds" if seeds[0] > 1 else "one seed"
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    text = f"{len(prompts)} prompts with {each} each, {rows[0]['dtype']}, {machines}."
    if any(row.get("gradients") for row in rows):
        text += f" Of a budget of evaluations, the gradient of a guided prediction takes {BACKWARD}."
    return text


def _mean(method: Method, measure: str) -> float:
    return float(prompt_means(method[measure]).mean()) if measure in method else 0.0


def _interval(by_prompt: Mapping[str, Sequence[float]]) -> str:
    found = estimate(by_prompt)
    if found["low"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def winners(budgets: Iterable[Sequence[Row]]) -> str:
    """A table of the best of our methods and of all others at each budget, and the prompts on which ours is ahead."""
    head = ("setting", "budget", "best of ours", "hypervolume", "best of the others", "hypervolume", "ours is ahead")
    lines = ["# Methods at equal cost", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for rows in budgets:
        found = methods_of(rows)
        ours = next((name for name in found if name.startswith(OURS)), None)
        other = next((name for name in found if not name.startswith((*OURS, UNSTEERED))), None)
        if ours is None or other is None:
            continue
        left, right = (found[name]["hypervolume"] for name in (ours, other))
        common = [prompt for prompt in left if prompt in right]
        pairs = (prompt_means({prompt: by_prompt[prompt] for prompt in common}) for by_prompt in (left, right))
        ahead = sum(a >= b for a, b in zip(*pairs, strict=True))
        cells = chain.from_iterable([name, f"{_mean(found[name], 'hypervolume'):.3f}"] for name in (ours, other))
        budget = f"{rows[0]['budget']:,} {COST_NAMES[rows[0]['cost']]}"
        lines.append(f"| {' | '.join([rows[0]['setting'], budget, *cells, f'{ahead} of {len(common)} prompts'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(main)
