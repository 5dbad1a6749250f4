"""How long ``srsoup compare`` takes, from start to end: ``python -m benchmarks.compare``.

Four runs of 200 pictures: 5 preferences, 10 prompts, 4 seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.machine import describe
from benchmarks.noise import write_noise
from srsoup_lightning import Preferences

RUNS, PREFERENCES, PROMPTS, SEEDS = 4, 5, 10, 4


def main(
    out: Path = Path("benchmarks/results/compare.json"),
    sides: tuple[int, ...] = (64, 512),
    repeats: int = 3,
) -> None:
    """Measure and write.

    Args:
        out: Where the results go.
        sides: Height and width of the pictures in pixels.
        repeats: Comparisons of each size; the median counts.
    """
    seconds = {f"{side} pixels": _seconds(side, repeats) for side in sides}
    pictures = f"{RUNS} runs of {PREFERENCES * PROMPTS * SEEDS}"
    results = {"machine": describe(), "pictures": pictures, "seconds": seconds}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


def _seconds(side: int, repeats: int) -> float:
    preferences, prompts = (
        Preferences.lattice(["red", "blue"], PREFERENCES - 1),
        [f"prompt {n}" for n in range(PROMPTS)],
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = [write_noise(Path(folder) / f"run {n}", preferences, prompts, SEEDS, side, n) for n in range(RUNS)]
        command = [sys.executable, "-m", "srsoup_lightning", "compare", *runs, "--out", f"{folder}/comparison"]
        times = []
        for _ in range(repeats):
            start = perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    auto_cli(main)
