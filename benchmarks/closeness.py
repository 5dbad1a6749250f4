"""What predicts that a borrowed candidate is as good as an own one: ``python -m benchmarks.closeness``.

Trajectories of a weighted sum are stopped at some steps, and every one of them is asked about the same many draws. What
a lender's candidates are worth to a borrower is how far their rewards agree: the correlation over those draws, 1 where
borrowing is as good as asking. A row has it, and every candidate for a predictor of it; ``benchmarks.closeness_report``
compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.front import COMMON, jpeg_and_clip
from benchmarks.query_efficiency import append_rows, read_rows
from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.pipeline import Loading, load_backbone
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import Never, Problem, SRSoup, StepState
from srsoup_lightning.search.closeness import Measure

PROMPTS = ("a fox", "a bear", "a frog", "a turtle")  # none of the benchmark's own
PROBES = 4


def main(
    out: Path = Path("benchmarks/results/closeness.jsonl"),
    prompts: list[str] = list(PROMPTS),  # noqa: B006 - jsonargparse shows the default
    seeds: list[int] = [0],  # noqa: B006
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
        judged: How many draws the comparison takes.
        dtype: Precision of the networks.
    """
    backbone = load_backbone("tiny-animals", Loading(dtype=dtype))
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["prompt"], row["seed"]) for row in read_rows(out)}
    for prompt in prompts:
        for seed in seeds:
            if (prompt, seed) not in done:
                rows = _compare(backbone, prompt, seed, steps, divisions, candidates, judged)
                append_rows(out, [{"prompt": prompt, "seed": seed, **row} for row in rows])


@dataclass(frozen=True)
class Watched(Never):
    """The weighted sum, with a callback that is given the state before each step."""

    look: Callable[[StepState], None]

    def share(self, state: StepState) -> Tensor:
        """See :meth:`Sharing.share`."""
        self.look(state)
        return super().share(state)


@torch.inference_mode()
def _compare(
    backbone: Backbone, prompt: str, seed: int, steps: list[int], divisions: int, candidates: int, judged: int
) -> list[dict[str, float | str]]:
    """The rows of one prompt and seed; the judging candidates are drawn apart from the trajectories' own."""
    problem = Problem(backbone.bind(prompt, **COMMON), jpeg_and_clip(), 64, prompt)
    apart = NoiseSource(prompt, seed + 1_000_000, problem.shape)
    rows: list[dict[str, float | str]] = []

    def look(state: StepState) -> None:
        if state.step in steps:
            draws = apart.candidates(judged, state.step)
            rows.extend(_pairs(state, _ask(problem, state, draws)))

    sampler = SRSoup(**COMMON, candidates=candidates, sharing=Watched(look))
    sampler.run(problem, Preferences.lattice(problem.rewards, divisions), prompt, seed)
    return rows


def _ask(problem: Problem, state: StepState, draws: Tensor) -> Tensor:
    """Rewards (P, M, N) of common draws (N, *shape) at every trajectory."""
    x = (state.means.unsqueeze(1) + state.sigma * draws).flatten(0, 1)
    everything = torch.ones(len(x), len(problem.rewards), dtype=torch.bool)
    scores, _ = problem.query_previews(x, state.step + 1, everything)
    return scores.unflatten(0, (len(state.means), len(draws))).transpose(1, 2)


def _pairs(state: StepState, answers: Tensor) -> Iterator[dict[str, float | str]]:
    weights = state.preferences
    near = {measure: state.closeness(measure) for measure in get_args(Measure)}
    probed = torch.stack([torch.corrcoef(answers[:, j, :PROBES]) for j in range(answers.shape[1])], dim=2)
    agreed = torch.stack([torch.corrcoef(answers[:, j]) for j in range(answers.shape[1])], dim=2)
    for p in range(len(weights)):
        for s in range(len(weights)):
            for j, reward in enumerate(("jpeg", "clip")):
                yield {
                    "step": state.step,
                    "sigma": state.sigma,
                    "reward": reward,
                    "listener": float(weights[p, 0]),
                    "supplier": float(weights[s, 0]),
                    **{f"closeness of {measure}": float(table[p, s]) for measure, table in near.items()},
                    "probe_correlation": float(probed[p, s, j]),
                    "reward_correlation": float(agreed[p, s, j]),
                }


if __name__ == "__main__":
    auto_cli(main)
