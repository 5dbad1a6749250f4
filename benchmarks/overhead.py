"""What a soup costs beside its networks: ``python -m benchmarks.overhead``.

The bare cost is network evaluations x a bare batched network call + decodes x a bare batched decode + queries x a
bare batched reward, each measured here, before and after the soups, on the tensors' real sizes. The overhead is the
soups' wall time over that. Peak memory is that of a process of its own for each size of soup, on Linux.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.front import COMMON, jpeg_and_clip
from benchmarks.machine import describe, peak_memory
from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.pipeline import Loading, load_backbone
from srsoup_lightning.samplers import Auto, FixedSoup, Problem, Soup, SRSoup, WeightedSum

PROMPT = "a lobster"
PREVIEW = "tiny-animals-preview"
SMALL_SOUP = "benchmarks.overhead.make_small_soup"
SIZES = {  # divisions of the lattice, and candidates of the weighted sum; None is SRSoup's Auto
    "3 preferences, N = 8": (2, 8),
    "21 preferences, N = 8": (20, 8),
    "3 preferences, N = 64": (2, 64),
    "3 preferences, Auto": (2, None),
    "21 preferences, Auto": (20, None),
}


def main(out: Path = Path("benchmarks/results/overhead.json"), repeats: int = 1, max_batch: int = 64) -> None:
    """Measure the overhead of the weighted sum and of SRSoup, and peak memory against the size of a soup.

    Args:
        out: Where the results go.
        repeats: Soups of each method; the median counts.
        max_batch: How many latents the network sees at once, in the soups and in the bare calls.
    """
    backbone, previewing = (load_backbone("tiny-animals", Loading(preview_decoder=each)) for each in (None, PREVIEW))
    methods = {
        "SRSoup(Auto)": Auto(**COMMON, max_batch=max_batch),
        "SRSoup(FixedSoup(0, 8))": SRSoup(**COMMON, candidates=16, sharing=FixedSoup(0, 8), max_batch=max_batch),
        "WeightedSum": WeightedSum(**COMMON, candidates=16, max_batch=max_batch),
    }
    rates = [_bare_rates(backbone, previewing, max_batch)]
    soups = {name: [_soup(backbone, sampler, 10, seed) for seed in range(repeats)] for name, sampler in methods.items()}
    rates.append(_bare_rates(backbone, previewing, max_batch))
    bare = {key: median(rate[key] for rate in rates) for key in rates[0]}
    results = {
        "machine": describe(),
        "milliseconds": {key: 1_000 * rate for key, rate in bare.items()},
        "overhead": {name: median(_overhead(soup, bare) for soup in made) for name, made in soups.items()},
        "peak_megabytes": {name: peak_memory(SMALL_SOUP, *size) for name, size in SIZES.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


@torch.inference_mode()
def _soup(backbone: Backbone, sampler: SRSoup, divisions: int, seed: int) -> Soup:
    denoiser = backbone.bind(PROMPT, **COMMON | {"num_inference_steps": sampler.num_inference_steps})
    problem = Problem(denoiser, jpeg_and_clip(), sampler.max_batch, PROMPT)
    return sampler.run(problem, Preferences.lattice(["jpeg", "clip"], divisions), PROMPT, seed)


@torch.inference_mode()
def _bare_rates(backbone: Backbone, previewing: Backbone, batch: int) -> dict[str, float]:
    """Seconds of one network evaluation, one decode by each decoder and one query of each reward, in batches."""
    denoiser, with_tiny = (each.bind(PROMPT, **COMMON) for each in (backbone, previewing))
    x = torch.randn(batch, *denoiser.shape)
    images = denoiser.decode(x)
    rates = {
        "network evaluation": seconds(lambda: denoiser.denoise(x, 10)) / (batch * denoiser.evaluations),
        "decode": seconds(lambda: denoiser.decode(x)) / batch,
        f"decode by {PREVIEW}": seconds(lambda: with_tiny.decode_preview(x)) / batch,
    }
    return rates | {
        name: seconds(lambda reward=reward: reward.score(images, [PROMPT] * batch)) / batch
        for name, reward in jpeg_and_clip().rewards.items()
    }


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Return the median seconds of some calls, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)


def _overhead(soup: Soup, rates: dict[str, float]) -> float:
    bare = soup.ledger.nfe * rates["network evaluation"] + soup.ledger.decodes * rates["decode"]
    bare += sum(count * rates[name] for name, count in soup.ledger.queries.items())
    return soup.ledger.seconds / bare


def make_small_soup(divisions: int, candidates: int | None) -> None:
    """Make one soup of three steps in batches of 16."""
    options = COMMON | {"num_inference_steps": 3, "max_batch": 16}
    sampler = Auto(**options) if candidates is None else WeightedSum(**options, candidates=candidates)
    _soup(load_backbone("tiny-animals"), sampler, divisions, 0)


if __name__ == "__main__":
    auto_cli(main)
