"""Tables of the methods at equal cost, from the rows of their soups: ``python -m benchmarks.rivals_report``.

Some rows of seed 0, the first that were made, have the hypervolume alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, median
from typing import Any

from jsonargparse import auto_cli

from benchmarks.equal_cost import BACKWARD, COSTS, HELD_OUT, REWARDS
from benchmarks.rivals import KEPT, RESULTS, SEARCHED, UNSTEERED
from benchmarks.soup_rows import Row, circumstances, interval, known_of, mean, methods_of, number
from srsoup_lightning.pareto.bootstrap import prompt_means
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.rows import grouped

OURS = ("Auto", "Fast", "Pooled", "SRSoup")
COST_NAMES = {"nfe": "network evaluations", "queries": "queries"}
HEAD = ("method", "hypervolume", "utility", "queries", "network evaluations", "gradients", "of the plan", "diversity")


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
    timings = [seconds(setting, known) for setting, known in known_of(results / "seconds.json").items()]
    (results / "tables.md").write_text("\n\n".join([winners(budgets), *sections, *timings]) + "\n")


def section(rows: Sequence[Row]) -> str:
    """A table of one budget."""
    first, found = rows[0], methods_of(rows, KEPT, "hypervolume")
    held_out = HELD_OUT[first["setting"]]
    title = f"## {first['setting']}, at most {first['budget']:,} {COST_NAMES[first['cost']]} a soup"
    head = [*HEAD, f"{held_out}, held out"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, method in found.items():
        planned = next(row["nfe_at_most"] for row in rows if row["method"] == name)
        cells = [name, *(interval(method, each) for each in ("hypervolume", "utility"))]
        cells += [number(method, each) for each in ("queries", "nfe", "gradients")]
        cells += [f"{mean(method, 'nfe') / planned:.2f}" if "nfe" in method else "—", interval(method, "diversity")]
        cells.append(number(method, f"mean_{held_out}", 1))
        lines.append(f"| {' | '.join(cells)} |")
    hours = len(rows) * fmean(row["seconds"] for row in rows if "seconds" in row) / 3_600
    about = f"{circumstances(rows)} These soups took about {hours:.1f} hours, one after the other."
    if any(row.get("gradients") for row in rows):
        about += f" Of a budget of evaluations, the gradient of a guided prediction takes {BACKWARD}."
    return "\n".join([title, "", about, "", *lines])


def seconds(setting: str, known: Mapping[str, Any]) -> str:
    """A table of the seconds of a soup, the method with the fastest network evaluations first."""
    rows = known["methods"]
    head = ("method", "seconds", "lowest", "highest", "queries", "network evaluations", "milliseconds an evaluation")
    title = f"## {setting}, seconds of a soup at {SEARCHED:,} network evaluations"
    about = f"One prompt, median of {len(next(iter(rows.values()))['seconds'])}, {known['dtype']}, {known['machine']}."
    lines = [title, "", about, "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, row in sorted(rows.items(), key=lambda item: median(item[1]["seconds"]) / item[1]["nfe"]):
        middle = median(row["seconds"])
        times = [f"{each:.1f}" for each in (middle, min(row["seconds"]), max(row["seconds"]))]
        cells = [name, *times, f"{row['queries']:,}", f"{row['nfe']:,}", f"{1_000 * middle / row['nfe']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def winners(budgets: Iterable[Sequence[Row]]) -> str:
    """A table of the best of our methods and of all others at each budget, and the prompts on which ours is ahead."""
    head = ("setting", "budget", "best of ours", "hypervolume", "best of the others", "hypervolume", "ours is ahead")
    lines = ["# Methods at equal cost", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for rows in budgets:
        found = methods_of(rows, KEPT, "hypervolume")
        ours = next((name for name in found if name.startswith(OURS)), None)
        other = next((name for name in found if not name.startswith((*OURS, UNSTEERED))), None)
        if ours is None or other is None:
            continue
        left, right = (found[name]["hypervolume"] for name in (ours, other))
        common = [prompt for prompt in left if prompt in right]
        pairs = (prompt_means({prompt: by_prompt[prompt] for prompt in common}) for by_prompt in (left, right))
        ahead = sum(a >= b for a, b in zip(*pairs, strict=True))
        cells = chain.from_iterable([name, f"{mean(found[name], 'hypervolume'):.3f}"] for name in (ours, other))
        budget = f"{rows[0]['budget']:,} {COST_NAMES[rows[0]['cost']]}"
        lines.append(f"| {' | '.join([rows[0]['setting'], budget, *cells, f'{ahead} of {len(common)} prompts'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(main)
