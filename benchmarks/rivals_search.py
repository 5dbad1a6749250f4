"""The same small search of settings for every method at equal cost: ``python -m benchmarks.rivals_search``.

Each method tries the few settings that :mod:`benchmarks.contenders` lists for it, at 1,700 network evaluations, on
prompts that the comparison doesn't have. The best one by hypervolume is chosen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.contenders import CONTENDERS
from benchmarks.equal_cost import Bench, Entry
from benchmarks.rivals import RESULTS, SEARCHED
from benchmarks.soup_rows import known_of
from srsoup_lightning.runs.files import write_atomically

PROMPTS = ("a fox", "a turtle", "a cow")


def main(
    out: Path = RESULTS / "chosen.json",
    workdir: Path = Path("build/rivals_search"),
    methods: list[str] = list(CONTENDERS),  # noqa: B006 - jsonargparse shows the default
    dtype: str = "bfloat16",
) -> None:
    """Choose the settings of the methods that have none yet.

    Args:
        out: The file of the chosen settings.
        workdir: Folder of the run directories.
        methods: Which methods, by name.
        dtype: Precision of the networks.
    """
    settings = ("two rewards", "differentiable rewards")
    benches = {setting: Bench(setting, workdir, dtype, workdir / "sizes.json") for setting in settings}
    for name in methods:
        contender = CONTENDERS[name]
        by_gradient = contender.make(contender.least).takes_gradients
        tried = [] if name in known_of(out) else tries(name, benches[settings[by_gradient]])
        if len(tried) < 2:
            continue
        best = max(tried, key=lambda each: each["hypervolume"])
        chosen = {"options": best["options"], "tried": tried}
        write_atomically(out, (json.dumps({**known_of(out), name: chosen}, indent=1) + "\n").encode())


def tries(name: str, bench: Bench) -> list[dict[str, Any]]:
    """Hypervolume of a method with its authors' settings and with each of the others, where the budget allows."""
    contender, budget = CONTENDERS[name], SEARCHED
    given = {"units": bench.units(PROMPTS)} if contender.takes_units else {}
    found = []
    for options in ({}, *contender.search):
        if (sampler := bench.fitted(contender, given | dict(options), "nfe", budget)) is not None:
            rows = bench.measure(Entry(f"{name}, {json.dumps(options)}", sampler), PROMPTS, 0, PROMPTS)
            volume = sum(row["hypervolume"] for row in rows) / len(rows)
            found.append({"options": options, "hypervolume": volume})
    return found


if __name__ == "__main__":
    auto_cli(main)
