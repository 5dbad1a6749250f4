"""Tables of the methods at equal cost, from the rows of the comparison: ``python -m benchmarks.rivals_report``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.rivals import HELD_OUT, RESULTS

OURS = ("Auto", "Fast", "Pooled", "SRSoup")
COSTS = {"nfe": "network evaluations", "queries": "queries"}
HEAD = (
    *("method", "hypervolume", "utility", "queries", "network evaluations", "gradients", "of the plan", "diversity"),
    "seconds",
)


def main(results: Path = RESULTS) -> None:
    """Write ``tables.md`` beside the rows.

    Args:
        results: Folder of the rows.
    """
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*-*-*.json"))]
    found.sort(key=lambda each: (each["setting"] != "two rewards", each["cost"], each["budget"]))
    sections = [section(each) for each in found]
    (results / "tables.md").write_text("\n\n".join([winners(found), *sections]) + "\n")


def measures(content: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by method and measure, the best hypervolume first."""
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for row in content["rows"]:
        runs.setdefault(row["run"], {})[row["measure"]] = row
    return dict(sorted(runs.items(), key=lambda item: -item[1]["hypervolume"]["mean"]))


def section(content: Mapping[str, Any]) -> str:
    """A table of one budget."""
    held_out = HELD_OUT[content["setting"]]
    seeds = len(content["seeds"])
    prompts = len(next(iter(content["hypervolume_by_prompt"].values())))
    title = f"## {content['setting']}, at most {content['budget']:,} {COSTS[content['cost']]} a soup"
    each = "one seed" if seeds == 1 else f"{seeds} seeds"
    about = f"{prompts} prompts with {each} each, {content['dtype']}, {content['machine']}."
    head = [*HEAD, f"{held_out}, held out"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, found in measures(content).items():
        cells = [name, *(_interval(found[each]) for each in ("hypervolume", "utility"))]
        cells += [f"{found[each]['mean']:,.0f}" if each in found else "0" for each in ("queries", "nfe", "gradients")]
        planned = content["nfe_at_most"].get(name)
        cells += [
            f"{found['nfe']['mean'] / planned:.2f}" if planned else "",
            _interval(found["diversity"]),
            f"{found['seconds']['mean']:.1f}",
            f"{found[f'mean_{held_out}']['mean']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([title, "", about, "", *lines])


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def winners(contents: Sequence[Mapping[str, Any]]) -> str:
    """A table of the best of our methods and of all others at each budget, and the prompts on which ours is ahead."""
    head = ("setting", "budget", "best of ours", "hypervolume", "best of the others", "hypervolume", "ours is ahead")
    lines = ["# Methods at equal cost", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for content in contents:
        found, by_prompt = measures(content), content["hypervolume_by_prompt"]
        ours = next((name for name in found if name.startswith(OURS)), None)
        other = next(name for name in found if not name.startswith(OURS) and name != "base")
        if ours is None:
            continue
        ahead = [prompt for prompt, value in by_prompt[ours].items() if value >= by_prompt[other][prompt]]
        cells = [content["setting"], f"{content['budget']:,} {COSTS[content['cost']]}"]
        for name in (ours, other):
            cells += [name, f"{found[name]['hypervolume']['mean']:.3f}"]
        lines.append(f"| {' | '.join([*cells, f'{len(ahead)} of {len(by_prompt[ours])} prompts'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(main)
