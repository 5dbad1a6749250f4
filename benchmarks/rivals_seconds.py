"""Seconds of a soup of each method at equal cost: ``python -m benchmarks.rivals_seconds``.

The rows of :mod:`benchmarks.rivals` come from several machines, some of them busy. Here all methods run in one process,
one after another and several times around, so that their seconds can be compared. The machine must be idle.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.contenders import CONTENDERS
from benchmarks.equal_cost import BACKWARD, PILOT, Bench, Entry
from benchmarks.machine import describe
from benchmarks.rivals import PROMPTS, RESULTS, SEARCHED, entries_of
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

    Args:
        out: File of the seconds.
        workdir: Folder of the unsteered pictures that the units come from.
        settings: "two rewards", "three rewards", "differentiable rewards".
        methods: Which methods, by name.
        repeats: Soups of each method, after one that is not counted.
        dtype: Precision of the networks.
    """
    chosen: dict[str, dict] = {}
    found = {"machine": describe(), "dtype": dtype, "settings": {}}
    for setting in settings:
        bench = Bench(setting, workdir, dtype, RESULTS / "sizes.json")
        entries = list(entries_of(bench, "nfe", SEARCHED, methods, chosen, list(PROMPTS)))
        rows: dict[str, dict] = {entry.name: {"seconds": []} for entry in entries}
        for number in range(repeats + 1):
            for entry in entries:
                seconds, costs = timed(bench, entry)
                Console().print(f"{setting}, {number}: {entry.name}, {seconds:.1f} s", markup=False, highlight=False)
                if number:
                    rows[entry.name]["seconds"].append(round(seconds, 3))
                    rows[entry.name] |= costs
        found["settings"][setting] = rows
        write_atomically(out, (json.dumps(found, indent=1) + "\n").encode())


def timed(bench: Bench, entry: Entry) -> tuple[float, dict[str, int]]:
    """Seconds and costs of a soup. Network evaluations include backward passes, as a budget counts them."""
    problem = bench.problem()
    start = perf_counter()
    with torch.inference_mode():
        ledger = entry.sampler.run(problem, bench.preferences, PILOT, 0).ledger
    seconds = perf_counter() - start
    return seconds, {"queries": ledger.total_queries, "nfe": ledger.nfe + BACKWARD * ledger.gradients}


if __name__ == "__main__":
    auto_cli(main)
