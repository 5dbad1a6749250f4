"""Seconds of a soup of each method at equal cost: ``python -m benchmarks.rivals_seconds``.

The rows of :mod:`benchmarks.rivals` come from several machines, some of them busy. Here all methods run in one process,
one after another and several times around, so that their seconds can be compared. The machine must be idle.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.contenders import CONTENDERS
from benchmarks.equal_cost import Bench, amounts
from benchmarks.machine import describe
from benchmarks.rivals import PROMPTS, RESULTS, SEARCHED, entries_of
from benchmarks.soup_rows import known_of
from srsoup_lightning.runs.files import write_atomically


def main(
    out: Path = RESULTS / "seconds.json",
    workdir: Path = Path("build/rivals"),
    settings: list[str] = ["two rewards", "differentiable rewards"],  # noqa: B006 - jsonargparse shows the default
    methods: list[str] = list(CONTENDERS),  # noqa: B006
    repeats: int = 3,
    dtype: str = "bfloat16",
) -> None:
    """Time a soup of each method, with its authors' settings, at 1,700 network evaluations.

    Settings that were measured before and are not measured now stay in the file.

    Args:
        out: File of the seconds.
        workdir: Folder of the unsteered pictures that the units come from.
        settings: "two rewards", "three rewards", "differentiable rewards".
        methods: Which methods, by name.
        repeats: Soups of each method, after one that is not counted.
        dtype: Precision of the networks.
    """
    found = known_of(out)
    for setting in settings:
        bench = Bench(setting, workdir, dtype, RESULTS / "sizes.json")
        entries = list(entries_of(bench, "nfe", SEARCHED, methods, {}, list(PROMPTS)))
        costs = {entry.name: amounts(bench.pilot(entry.sampler)) for entry in entries}
        seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
        for number in range(repeats):
            for entry in entries:
                seconds[entry.name].append(round(bench.pilot(entry.sampler).seconds, 3))
            rows = {name: {"seconds": times, **costs[name]} for name, times in seconds.items()}
            found[setting] = {"machine": describe(), "dtype": dtype, "methods": rows}
            write_atomically(out, (json.dumps(found, indent=1) + "\n").encode())
            Console().print(f"{setting}: {number + 1} of {repeats} soups of each method", highlight=False)


if __name__ == "__main__":
    auto_cli(main)
