"""SRSoup, the weighted sum and best-of-N at their own costs: ``python -m benchmarks.methods``.

How fronts are judged, and what is fixed beforehand, is in :mod:`benchmarks.front`. A row is the mean over all prompts
and seeds; intervals are 95 % bootstrap over prompts.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.front import Scale, interval, measure, runner, unsteered_scales
from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Preferences
from srsoup_lightning.samplers import BaseModel, BestOfN, FixedSoup, Sampler, Soup, SRSoup, WeightedSum

ANIMALS = ("hippopotamus", "snail", "leopard", "crocodile", "lobster", "octopus")
PROMPTS = tuple(f"an {animal}" if animal == "octopus" else f"a {animal}" for animal in ANIMALS)


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
    run = runner("tiny-animals", {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}, preferences)
    scales = unsteered_scales(run, BaseModel(**common), PROMPTS, unsteered)
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
        results[name] = _summarise(run(sampler, PROMPTS, seeds), scales)
        out.write_text(json.dumps({"settings": settings, "methods": results}, indent=2) + "\n")
        Console().print(as_markdown(results), markup=False, soft_wrap=True)


def _summarise(soups: list[Soup], scales: dict[str, Scale]) -> dict[str, object]:
    """Utility and hypervolume with their intervals, and the mean cost."""
    rows = [(soup.prompt, measure(soup, scales[soup.prompt])) for soup in soups]
    by_prompt = {
        key: {prompt: [row[key] for at, row in rows if at == prompt] for prompt in PROMPTS} for key in rows[0][1]
    }
    fronts = {key: interval(by_prompt[key]) for key in ("utility", "hypervolume", "smoothness")}
    costs = {key: sum(row[key] for _, row in rows) / len(rows) for key in ("queries", "nfe", "decodes", "seconds")}
    return {**fronts, **costs}


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
