"""SRSoup, the weighted sum and best-of-N at their own costs: ``python -m benchmarks.methods``.

The box of the hypervolume and the scale of the utility are fixed beforehand from unsteered samples of the same prompts:
from the mean minus 2 to the mean plus 6 standard deviations of each reward. A row
is the mean over all prompts and seeds; intervals are 95 % bootstrap over prompts.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console

from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.pareto import Hypervolume
from srsoup_lightning.samplers import BaseModel, BestOfN, FixedSoup, Sampler, Soup, SRSoup, WeightedSum

ANIMALS = ("hippopotamus", "snail", "leopard", "crocodile", "lobster", "octopus")
PROMPTS = tuple(f"an {animal}" if animal == "octopus" else f"a {animal}" for animal in ANIMALS)
LOW, HIGH = -2.0, 6.0  # corners of the hypervolume's box, in standard deviations of unsteered samples
RESAMPLES = 2_000


def main(
    out: Path = Path("benchmarks/results/methods.json"),
    seeds: list[int] | None = None,
    num_inference_steps: int = 20,
    candidates: int = 10,
    unsteered: int = 32,
    divisions: int = 5,
) -> None:
    """Measure the methods on tiny-animals, JPEG compressibility against CLIPScore.

    Args:
        out: Where the results go.
        seeds: Seeds of every prompt; 0, 1 and 2 if left out.
        num_inference_steps: Denoising steps of every method.
        candidates: N of the search gradients.
        unsteered: Unsteered samples of each prompt that fix scale and box.
        divisions: Of the lattice of preferences.
    """
    seeds = [0, 1, 2] if seeds is None else seeds
    preferences = Preferences.lattice(["jpeg", "clip"], divisions)
    common = {"num_inference_steps": num_inference_steps, "guidance_scale": 5.0, "eta": 1.0}
    soup_end = round(0.4 * num_inference_steps)
    methods: dict[str, Sampler] = {
        "BaseModel": BaseModel(**common),
        "BestOfN(pool=96)": BestOfN(**common, pool=96),
        f"SRSoup(FixedSoup(0, {soup_end}))": SRSoup(**common, candidates=candidates, sharing=FixedSoup(0, soup_end)),
        "WeightedSum": WeightedSum(**common, candidates=candidates),
    }
    run = _runner(preferences)
    reference = run(BaseModel(**common), list(range(1_000, 1_000 + unsteered)))
    scale = {prompt: _moments([soup.rewards[0] for soup in reference if soup.prompt == prompt]) for prompt in PROMPTS}
    settings = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "prompts": PROMPTS,
        "seeds": seeds,
        "steps": num_inference_steps,
        "candidates": candidates,
        "preferences": len(preferences),
        "unsteered": unsteered,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict] = {}
    for name, sampler in methods.items():
        results[name] = _measure(run(sampler, seeds), scale)
        out.write_text(json.dumps({"settings": settings, "methods": results}, indent=2) + "\n")
        Console().print(as_markdown(results), markup=False, soft_wrap=True)


def _runner(preferences: Preferences) -> Callable[[Sampler, Sequence[int]], list[Soup]]:
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)

    def run(sampler: Sampler, seeds: Sequence[int]) -> list[Soup]:
        module = SRSoupModule("tiny-animals", rewards, sampler, preferences)
        return trainer.predict(module, PromptDataModule(list(PROMPTS), list(seeds)))

    return run


def _moments(scores: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    stacked = torch.stack(scores)
    return stacked.mean(0), stacked.std(0)


def _measure(soups: list[Soup], scale: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, object]:
    """Means and, for utility and hypervolume, 95 % bootstrap intervals over prompts."""
    utility: dict[str, list[float]] = {prompt: [] for prompt in PROMPTS}
    volume: dict[str, list[float]] = {prompt: [] for prompt in PROMPTS}
    for soup in soups:
        mean, std = scale[soup.prompt]
        z = (soup.rewards - mean) / std
        utility[soup.prompt].append(float((soup.preferences * z).sum(1).mean()))
        box = Hypervolume([LOW] * z.shape[1], [HIGH] * z.shape[1])
        box.update(z)
        volume[soup.prompt].append(float(box.compute()))
    count = len(soups)
    return {
        "utility": _interval(utility),
        "hypervolume": _interval(volume),
        "queries": sum(soup.ledger.total_queries for soup in soups) / count,
        "nfe": sum(soup.ledger.nfe for soup in soups) / count,
        "decodes": sum(soup.ledger.decodes for soup in soups) / count,
        "seconds": sum(soup.ledger.seconds for soup in soups) / count,
    }


def _interval(by_prompt: dict[str, list[float]]) -> dict[str, float]:
    means = np.array([np.mean(values) for values in by_prompt.values()])
    draws = np.random.default_rng(0).choice(means, (RESAMPLES, len(means))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"mean": float(means.mean()), "low": float(low), "high": float(high)}


def as_markdown(results: dict[str, dict]) -> str:
    """The table of README."""
    lines = [
        "| method | utility | hypervolume | queries | network evaluations | decodes | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        spread = [
            f"{row[key]['mean']:.{digits}f} ({row[key]['low']:.{digits}f} to {row[key]['high']:.{digits}f})"
            for key, digits in (("utility", 2), ("hypervolume", 3))
        ]
        cost = [f"{row[key]:,.0f}" for key in ("queries", "nfe", "decodes")]
        lines.append(f"| {name} | {' | '.join(spread + cost)} | {row['seconds']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(main)
