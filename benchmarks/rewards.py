"""What rewards say and cost: ``python -m benchmarks.rewards``.

Typical values of the rewards without weights, on pictures that tiny-animals draws unsteered, on plain grey and on white
noise of the same size, and their time for a larger picture. Throughput of the rewards with a network, as
:mod:`benchmarks.reward_throughput` says. Last, what ``import rewards`` takes on top of ``import torchmetrics``, in
processor seconds of processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from jsonargparse import auto_cli
from rich.console import Console
from torch import Tensor

from benchmarks.front import COMMON, FIRST_UNSTEERED_SEED, runner
from benchmarks.machine import describe
from benchmarks.reward_throughput import Row, score, throughput
from rewards import Brightness, Colorfulness, Contrast, JPEGCompressibility, Reward, Sharpness, Symmetry
from srsoup_lightning import Preferences
from srsoup_lightning.samplers import BaseModel

PROMPTS = ["a lobster", "an octopus", "a snail", "a butterfly", "a fox", "a turtle", "a whale", "a bee"]
WEIGHTLESS = {
    "Brightness": Brightness(),
    "Colorfulness": Colorfulness(),
    "Contrast": Contrast(),
    "JPEGCompressibility": JPEGCompressibility(),
    "Sharpness": Sharpness(),
    "Symmetry": Symmetry(),
}


def main(
    out: Path = Path("benchmarks/results/rewards.json"),
    table: Path = Path("benchmarks/results/rewards.md"),
    seeds: int = 4,
    repeats: int = 15,
    rounds: int = 30,
    batch: int = 2,
    pixels: int = 512,
) -> None:
    """Measure, and write the numbers and their tables.

    Args:
        out: Where the numbers go.
        table: Where the tables go.
        seeds: Pictures of each of the eight prompts.
        repeats: Timings of each reward without weights, and processes that import.
        rounds: Rounds of timings of each reward with a network.
        batch: Images in a timed call.
        pixels: Height and width of the images in a timed call.
    """
    pictures = _pictures(seeds)
    images = torch.rand(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    results = {
        "machine": describe(),
        "pictures": f"{len(pictures)} of tiny-animals, {pictures.shape[-1]} pixels",
        "timed": f"{batch} images of {pixels}x{pixels} pixels",
        "values": {name: _values(reward, pictures, images, repeats) for name, reward in WEIGHTLESS.items()},
        "throughput": throughput(images, rounds),
        "import_seconds": _import_seconds(repeats),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    table.write_text(as_markdown(results))
    Console().print_json(data=results)


def as_markdown(results: dict) -> str:
    """A table of the values and one of the throughputs."""
    lines = [
        "| reward | plain grey | pictures: 5 %, median, 95 % | white noise | ms an image |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["values"].items():
        grey, low, middle, high, noise = (_digits(row[key]) for key in ("grey", "low", "median", "high", "noise"))
        lines.append(f"| {name} | {grey} | {low}, {middle}, {high} | {noise} | {row['milliseconds']:.2g} |")
    edges = list(next(iter(results["throughput"].values())))
    lines += ["", f"| reward | {' | '.join(f'pictures of {edge}x{edge}' for edge in edges)} |", "|---|---|---|"]
    for name, rows in results["throughput"].items():
        cells = [f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})" for row in rows.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _digits(value: float) -> str:
    """Three digits, or all before the point; rounding leaves no minus before 0."""
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{value + 0.0:.3g}"


def _pictures(seeds: int) -> Tensor:
    """Unsteered pictures (8 seeds, 3, H, W)."""
    run = runner("tiny-animals", {"grey": Contrast()}, Preferences(["grey"], [[1.0]]))
    soups = run(BaseModel(**COMMON), PROMPTS, range(FIRST_UNSTEERED_SEED, FIRST_UNSTEERED_SEED + seeds))
    return torch.cat([soup.images for soup in soups]).float()


@torch.inference_mode()
def _values(reward: Reward, pictures: Tensor, images: Tensor, repeats: int) -> Row:
    """Scores of pictures, of grey and of noise, and milliseconds an image of the timed batch."""
    noise = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0))
    low, middle, high = score(reward, pictures).quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return {
        "grey": float(score(reward, torch.full_like(pictures[:1], 0.5))),
        "low": low,
        "median": middle,
        "high": high,
        "noise": float(score(reward, noise).mean()),
        "milliseconds": 1_000 * median(_seconds(lambda: score(reward, images)) for _ in range(repeats)) / len(images),
    }


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _import_seconds(repeats: int) -> Row:
    """Processor seconds of ``import rewards`` after ``import torchmetrics``."""
    code = "import time, torchmetrics; start = time.process_time(); import rewards; print(time.process_time() - start)"
    command = [sys.executable, "-c", code]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats)]
    return {"median": median(times), "least": min(times), "most": max(times)}


if __name__ == "__main__":
    auto_cli(main)
