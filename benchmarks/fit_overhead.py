"""What a fine-tuning costs beside its networks: ``python -m benchmarks.fit_overhead``.

The bare cost of a round is its evaluations without a graph x a bare batched network call, guided or not as there, its
gradients x a bare forward and backward pass, its decodes x a bare batched decode, and its queries x a bare batched
reward. Each is measured here, before and after the rounds, on the tensors' real sizes and with the adapter. The
overhead is the round's wall time, as the ledger has it, over that. Peak memory is that of a process of its own for each
size, on Linux.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import lightning as L
import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.front import COMMON, jpeg_and_clip
from benchmarks.machine import describe, peak_memory
from benchmarks.overhead import seconds
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.finetune import (
    DiffusionDPO,
    DRaFT,
    Matching,
    Objective,
    PolicyGradient,
    RankedSamples,
    Training,
)
from srsoup_lightning.samplers import BaseModel

PROMPTS = ["a lobster", "a snail"]
SIZE = {
    "num_inference_steps": 10,
    "guidance_scale": 5.0,
    "groups": 2,
    "group_size": 8,
    "train_batch": 8,
    "max_batch": 8,
}
SMALL_FIT = "benchmarks.fit_overhead.make_small_fit"
SIZES = {"group of 4, 4 steps": (4, 4), "group of 16, 4 steps": (16, 4), "group of 4, 16 steps": (4, 16)}


class Row(NamedTuple):
    """An objective, the reward that it is tuned for, and the network evaluations of a latent with a graph."""

    objective: Objective
    reward: str
    evaluations: int


ROWS = {
    "PolicyGradient": Row(PolicyGradient(**SIZE), "jpeg", 2),
    "Matching": Row(Matching(**SIZE), "jpeg", 1),
    "DRaFT": Row(DRaFT(**SIZE), "clip", 2),
    "DiffusionDPO": Row(DiffusionDPO(**SIZE, pairs=RankedSamples(match="mirrored")), "jpeg", 1),
}


def main(out: Path = Path("benchmarks/results/fit_overhead.json"), rounds: int = 2) -> None:
    """Measure the overhead of a round of each objective, and peak memory against the size of a group and the steps.

    Args:
        out: Where the results go.
        rounds: Rounds of each objective after a first one, which warms up; their mean counts.
    """
    results = {
        "machine": describe(),
        "overhead": {name: _overhead(row, rounds) for name, row in ROWS.items()},
        "peak_megabytes": {name: peak_memory(SMALL_FIT, *size) for name, size in SIZES.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


def _overhead(row: Row, rounds: int) -> float:
    module = _fit(row.objective, row.reward, 1)
    before, costs = _bare_rates(module, row), module.finetuning.costs
    longer = _fit(row.objective, row.reward, 1 + rounds).finetuning.costs
    rates = {name: median(pair) for name, pair in _paired(before, _bare_rates(module, row)).items()}
    gradients = longer.gradients - costs.gradients
    without = longer.nfe - costs.nfe - row.evaluations * gradients
    guided = min(without, rounds * SIZE["groups"] * SIZE["group_size"] * SIZE["num_inference_steps"] * 2)  # of samples
    bare = guided * rates["evaluation"] + (without - guided) * rates["unguided"] + gradients * rates["gradient"]
    bare += (longer.decodes - costs.decodes) * rates["decode"]
    bare += sum((longer.queries[name] - costs.queries[name]) * rates[name] for name in costs.queries)
    return (longer.seconds - costs.seconds) / bare


def _fit(objective: Objective, reward: str, rounds: int) -> SRSoupModule:
    rewards = jpeg_and_clip().rewards
    preferences = Preferences(list(rewards), [{reward: 1.0}])
    sampler = BaseModel(**COMMON)
    module = SRSoupModule("tiny-animals", rewards, sampler, preferences, training=Training(objective=objective))
    shown = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = L.Trainer(max_epochs=rounds, accelerator="cpu", **dict.fromkeys(shown, False))
    trainer.fit(module, datamodule=PromptDataModule(PROMPTS))
    return module


def _bare_rates(module: SRSoupModule, row: Row) -> dict[str, float]:
    """Seconds of an evaluation, of a forward and backward pass of a latent, of a decode and of each query."""
    objective, batch = row.objective, row.objective.train_batch
    denoiser = module.problem(PROMPTS[0], process=objective).denoiser
    x = torch.randn(batch, *denoiser.shape)
    with torch.no_grad():
        images = denoiser.decode(x)

    def step() -> None:
        denoise = denoiser.denoise if row.evaluations == denoiser.evaluations else denoiser.denoise_unguided
        value = denoise(x, 3).x0
        if objective.needs_gradient:
            value = module.rewards[row.reward].score(denoiser.decode(value), [PROMPTS[0]] * batch)
        value.mean().backward()

    def without_graph(call: Callable[[], object]) -> float:
        with torch.no_grad():
            return seconds(call)

    asked = {
        name: without_graph(lambda reward=reward: reward.score(images, [PROMPTS[0]] * batch)) / batch
        for name, reward in module.rewards.items()
    }
    rates = {
        "evaluation": without_graph(lambda: denoiser.denoise(x, 3)) / (batch * denoiser.evaluations),
        "unguided": without_graph(lambda: denoiser.denoise_unguided(x, 3)) / batch,
        "decode": without_graph(lambda: denoiser.decode(x)) / batch,
        "gradient": seconds(step) / batch,
    }
    if objective.needs_gradient:  # then the forward and backward pass has the decode and the query in it
        return rates | dict.fromkeys(asked, 0.0) | {"decode": 0.0}
    return rates | asked


def _paired(one: dict[str, float], other: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {name: (rate, other[name]) for name, rate in one.items()}


def make_small_fit(group_size: int, steps: int) -> None:
    """Fit one round of a policy gradient, four latents at once."""
    small = PolicyGradient(**SIZE)
    sizes = {"group_size": group_size, "num_inference_steps": steps, "train_batch": 4, "max_batch": 4}
    _fit(replace(small, groups=1, **sizes), "jpeg", 1)


if __name__ == "__main__":
    auto_cli(main)
