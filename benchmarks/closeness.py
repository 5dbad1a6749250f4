"""What predicts that a borrowed search gradient is as good as an own one: ``python -m benchmarks.closeness``.

Trajectories of a weighted sum are stopped at some steps, and every one of them is asked about the same many
candidates. The candidates are cut into two halves, A and B. What listener p gains by the gradient that supplier s makes
of half B is judged by p's own gradient of half A, whose noise is independent:

    quality(p, s, j) = <G_p^A[j], G_s^B[j]> / <G_p^A[j], G_p^B[j]>

which is 1 where borrowing is as good as asking and 0 where it is worth nothing. One pair is noisy, so pairs are binned
by a predictor; the best predictor is the one whose bins explain most of the quality's variance between pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor

from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.backbone import Backbone, load_backbone
from srsoup_lightning.samplers import Judges, Problem, WeightedSum
from srsoup_lightning.search.gradient import bhattacharyya, project_to_shell, search_gradient
from srsoup_lightning.search.noise import NoiseSource
from srsoup_lightning.search.shaping import standardise

REWARDS = ("jpeg", "clip")
COMMON = {"num_inference_steps": 20, "guidance_scale": 5.0, "eta": 1.0}
PROMPTS = ("a fox", "a bear", "a frog", "a turtle", "a duck", "a cow")  # none of the benchmark's own
PROBES = 4


def main(
    out: Path = Path("benchmarks/results/closeness.jsonl"),
    prompts: list[str] = list(PROMPTS),  # noqa: B006 - jsonargparse shows the default
    seeds: list[int] = [0, 1],  # noqa: B006
    steps: list[int] = [1, 3, 5, 7, 9, 12, 15, 18],  # noqa: B006
    divisions: int = 5,
    candidates: int = 16,
    judged: int = 96,
    dtype: str = "bfloat16",
) -> None:
    """Write a row for each pair of trajectories, reward and step; finished soups aren't made again.

    Args:
        out: Where the rows go.
        prompts: The prompts.
        seeds: Seeds of every prompt.
        steps: At which denoising steps pairs are compared.
        divisions: Of the lattice of preferences.
        candidates: N of the weighted sum that moves the trajectories.
        judged: How many candidates the comparison takes, an even number.
        dtype: Precision of the networks.
    """
    if judged % 2:
        raise ValueError(f"judged is {judged}: give an even number, it is cut into halves")
    backbone = load_backbone("tiny-animals", dtype=dtype)
    out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row["prompt"], row["seed"]) for row in known}
    for prompt in prompts:
        for seed in seeds:
            if (prompt, seed) not in done:
                rows = list(_compare(backbone, prompt, seed, steps, divisions, candidates, judged))
                with out.open("a") as file:
                    file.writelines(json.dumps({"prompt": prompt, "seed": seed, **row}) + "\n" for row in rows)


@torch.inference_mode()
def _compare(
    backbone: Backbone, prompt: str, seed: int, steps: list[int], divisions: int, candidates: int, judged: int
) -> Iterator[dict[str, float]]:
    sampler = WeightedSum(**COMMON, candidates=candidates)
    judges = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}
    scores = {
        name: (lambda images, judge=judge: judge.score(images, [prompt] * len(images)))
        for name, judge in judges.items()
    }
    problem = Problem(backbone.bind(prompt, **COMMON), Judges(scores, on_cpu=["jpeg"]), sampler.max_batch)
    weights = Preferences.lattice(REWARDS, divisions).weights
    noise = NoiseSource(prompt, seed, problem.shape)
    x = noise.start().expand(len(weights), *problem.shape)
    for step in range(problem.kernel.steps):
        prediction = problem.predict(x, step)
        means, sigma = problem.kernel.transition(step, x, prediction)
        if sigma == 0:
            return
        if step in steps:
            draws = NoiseSource(prompt, seed + 1_000_000, problem.shape).candidates(judged, step)
            answers = _ask(problem, means, sigma, draws, step)
            yield from _pairs(means, prediction.x0, sigma, draws, answers, weights, step)
        draws = noise.candidates(candidates, step)
        shaped = standardise(_ask(problem, means, sigma, draws, step))
        directions = search_gradient(torch.einsum("pj,pjk->pk", weights, shaped), draws)
        x = means + sigma * project_to_shell(directions, draws[:1])


def _ask(problem: Problem, means: Tensor, sigma: float, draws: Tensor, step: int) -> Tensor:
    """Rewards (P, M, N) of common draws (N, *shape) at every trajectory."""
    x = (means.unsqueeze(1) + sigma * draws).flatten(0, 1)
    everything = torch.ones(len(x), len(problem.rewards), dtype=torch.bool)
    return problem.query(x, step + 1, everything).unflatten(0, (len(means), len(draws))).transpose(1, 2)


def _pairs(
    means: Tensor, previews: Tensor, sigma: float, draws: Tensor, answers: Tensor, weights: Tensor, step: int
) -> Iterator[dict[str, float]]:
    half = len(draws) // 2
    first, second = (
        search_gradient(standardise(answers[..., part]), draws[part]).flatten(2) / half
        for part in (slice(half), slice(half, None))
    )
    gained = torch.einsum("pjd,sjd->psj", first, second)
    closeness = bhattacharyya(means, means, sigma)
    apart = torch.cdist(previews.flatten(1), previews.flatten(1)) / previews[0].numel() ** 0.5
    probed = torch.stack([torch.corrcoef(answers[:, j, :PROBES]) for j in range(answers.shape[1])], dim=2)
    agreed = torch.stack([torch.corrcoef(answers[:, j]) for j in range(answers.shape[1])], dim=2)
    for p in range(len(means)):
        for s in range(len(means)):
            for j, reward in enumerate(REWARDS):
                yield {
                    "step": step,
                    "sigma": sigma,
                    "reward": reward,
                    "listener": float(weights[p, 0]),
                    "supplier": float(weights[s, 0]),
                    "gained": float(gained[p, s, j]),
                    "own": float(gained[p, p, j]),
                    "closeness": float(closeness[p, s]),
                    "preview_distance": float(apart[p, s]),
                    "probe_correlation": float(probed[p, s, j]),
                    "reward_correlation": float(agreed[p, s, j]),
                }


if __name__ == "__main__":
    auto_cli(main)
