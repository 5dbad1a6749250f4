"""What rewards say and cost: ``python -m benchmarks.rewards``.

Typical values of the rewards without weights, on pictures that tiny-animals draws unsteered, on plain grey and on white
noise of the same size, and their time for a larger picture. Throughput of the rewards with a network, relative to a
bare batched forward of that very network over pixels that are ready for it, for images of the network's own size and
for larger ones, which the reward resizes: a CLIP of the size of ViT-B/32 with random weights, since the ratio is what
counts. Both take turns, and each pair of timings gives one ratio. Last, what ``import rewards`` takes on top of
``import torchmetrics``, in processor seconds of processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
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
from benchmarks.reward_networks import save_aesthetic_head, save_clip
from rewards import (
    AestheticScore,
    Brightness,
    CLIPScore,
    Colorfulness,
    Contrast,
    HPSv2,
    JPEGCompressibility,
    PickScore,
    Reward,
    Sharpness,
    Symmetry,
)
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
Row = dict[str, float]


def main(
    out: Path = Path("benchmarks/results/rewards.json"),
    table: Path = Path("benchmarks/results/rewards.md"),
    seeds: int = 4,
    repeats: int = 15,
    batch: int = 16,
    pixels: int = 512,
) -> None:
    """Measure, and write the numbers and their tables.

    Args:
        out: Where the numbers go.
        table: Where the tables go.
        seeds: Pictures of each of the eight prompts.
        repeats: Pairs of timings of each reward with a network, and processes that import.
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
        "throughput": _throughput(images, repeats),
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
    low, middle, high = _score(reward, pictures).quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return {
        "grey": float(_score(reward, torch.full_like(pictures[:1], 0.5))),
        "low": low,
        "median": middle,
        "high": high,
        "noise": float(_score(reward, noise).mean()),
        "milliseconds": 1_000 * median(_seconds(lambda: _score(reward, images)) for _ in range(repeats)) / len(images),
    }


@torch.inference_mode()
def _throughput(images: Tensor, repeats: int) -> dict[str, dict[str, Row]]:
    """The bare forward's time over the reward's, by the images' size: the network's own, and that of those given."""
    with tempfile.TemporaryDirectory() as folder:
        save_clip(Path(folder))
        head = save_aesthetic_head(Path(folder))
        makers: dict[str, Callable[[], Reward]] = {
            "CLIPScore": lambda: CLIPScore(folder),
            "PickScore": lambda: PickScore(folder),
            "HPSv2": lambda: HPSv2(folder),
            "AestheticScore": lambda: AestheticScore(folder, head=head),
        }
        return {name: _by_size(make(), images, repeats) for name, make in makers.items()}


def _by_size(reward: Reward, images: Tensor, repeats: int) -> dict[str, Row]:
    edge = reward.networks[0].vision_model.config.image_size
    ready = torch.rand(len(images), 3, edge, edge, generator=torch.Generator().manual_seed(0))
    return {str(shown.shape[-1]): _ratios(reward, ready, shown, repeats) for shown in (ready, images)}


def _ratios(reward: Reward, ready: Tensor, images: Tensor, repeats: int) -> Row:
    network = reward.networks[0]

    def bare() -> Tensor:
        return network.visual_projection(network.vision_model(pixel_values=ready).pooler_output)

    bare(), _score(reward, images)
    pairs = [(_seconds(bare), _seconds(lambda: _score(reward, images))) for _ in range(repeats)]
    ratios = [forward / whole for forward, whole in pairs]
    return {
        "ratio": median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "milliseconds": 1_000 * median(whole for _, whole in pairs) / len(images),
    }


def _score(reward: Reward, images: Tensor) -> Tensor:
    """All with one prompt, whose embedding is kept from the first call on, as during a soup."""
    return reward.score(images, ["a lobster"] * len(images))


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
