"""What one step of the search is worth: ``python -m benchmarks.one_step``.

A soup is stopped before some of its steps. From there each way of stepping takes this one step, with the same draws,
and goes on without noise to the finished pictures; so does a step that nobody steers. What it gains over that one, in
standard deviations of unsteered pictures, has no luck of later steps in it, and tells ways apart that whole soups
can't. The soup goes on by the first way. ``benchmarks.one_step_report`` draws the curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.front import COMMON, jpeg_and_clip
from benchmarks.options import PROMPTS
from benchmarks.query_efficiency import SETTINGS, append_rows, read_rows, scale_of, unsteered_moments
from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.pipeline import Loading, load_backbone
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.pareto import Scale, utility
from srsoup_lightning.samplers import Auto, Problem, SRSoup, WeightedSum

RESULTS = Path("benchmarks/results/one_step.jsonl")
SCALES = Path("benchmarks/results/options/unsteered.jsonl")
WAYS: dict[str, SRSoup] = {
    "Auto(), N = 5": Auto(**COMMON),
    "Auto(), N = 11": Auto(**COMMON, candidates=11),
    "WeightedSum, N = 16": WeightedSum(**COMMON, candidates=16),
}


def main(
    out: Path = RESULTS,
    prompts: list[str] = list(PROMPTS),  # noqa: B006 - jsonargparse shows the default
    seeds: list[int] = [0],  # noqa: B006
    steps: list[int] = [4, 6, 8, 10, 12, 14, 16, 18],  # noqa: B006
    dtype: str = "bfloat16",
) -> None:
    """Write a row for each soup, step and way; finished soups aren't made again.

    Args:
        out: Where the rows go.
        prompts: The prompts.
        seeds: Seeds of every prompt.
        steps: Before which denoising steps the soup is stopped.
        dtype: Precision of the networks.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    setting = SETTINGS["two rewards"]
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}
    moments = unsteered_moments(SCALES, rewards, prompts, 64, Loading(dtype=dtype))
    backbone = load_backbone("tiny-animals", Loading(dtype=dtype))
    done = {(row["prompt"], row["seed"]) for row in read_rows(out)}
    for prompt in prompts:
        for seed in seeds:
            if (prompt, seed) in done:
                continue
            scale = scale_of(moments[prompt], setting.rewards)
            rows = measure(backbone, setting.preferences, scale, prompt, seed, steps)
            append_rows(out, [{"dtype": dtype, "prompt": prompt, "seed": seed, **row} for row in rows])


@torch.inference_mode()
def measure(
    backbone: Backbone, preferences: Preferences, scale: Scale, prompt: str, seed: int, steps: list[int]
) -> Iterator[dict[str, float | str]]:
    """The rows of one soup: mean gain over its preferences in all rewards weighted, and in each."""
    problem = Problem(backbone.bind(prompt, **COMMON), jpeg_and_clip(), 64, prompt)
    without_noise = problem.reschedule(problem.kernel.steps, eta=0.0)
    weights, noise = preferences.weights, NoiseSource(prompt, seed, problem.shape, problem.device)
    for step, moved in walk(WAYS, problem, weights, noise, steps):
        floor = scale.standardise(finish(without_noise, moved.pop("unsteered"), step + 1))
        for way, x in moved.items():
            gain = scale.standardise(finish(without_noise, x, step + 1)) - floor
            by_reward = dict(zip(problem.rewards, gain.mean(0).tolist(), strict=True))
            yield {"step": step, "way": way, "gain": float(utility(gain, weights).mean()), **by_reward}


def walk(
    ways: Mapping[str, SRSoup], problem: Problem, weights: Tensor, noise: NoiseSource, steps: list[int]
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield each of `steps` that is searched, with the latents (P, C, H, W) after it: of every way, and "unsteered".

    All ways start from the latents of the first way's soup of preferences `weights` (P, M), with its surrogate.
    """
    leader, *others = ways
    trajectories = ways[leader].trajectories(problem, weights, noise)
    first, x = ways[leader].start(trajectories, lambda _: None)
    for step in range(first, problem.kernel.steps):
        moved = {}
        if step in steps:
            for way in others:
                other = ways[way].trajectories(problem, weights, noise)
                other.learned = deepcopy(trajectories.learned)
                moved[way], _ = other.step(x, step)
            transition = problem.kernel.transition(step, x, problem.denoise(x, step))
            moved["unsteered"] = transition.draw(noise.step(step))
        x, _ = trajectories.step(x, step)
        if moved:
            yield step, {leader: x, **moved}


def finish(problem: Problem, x: Tensor, level: int) -> Tensor:
    """Scores (P, M) of the pictures that latents x (P, C, H, W) of a level lead to, where eta is 0."""
    for step in range(level, problem.kernel.steps):
        x = problem.kernel.transition(step, x, problem.denoise(x, step)).mean
    scores, _ = problem.score(problem.decode(x))
    return scores.cpu()


if __name__ == "__main__":
    auto_cli(main)
