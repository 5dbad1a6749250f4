"""Rewards in context: the adapter learns from pictures that are scored already, with their scores as its input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.formulas import velocity_distance
from srsoup_lightning.finetune.matching import evenly_spaced
from srsoup_lightning.finetune.picture_pairs import latent_of, scored, scores_of
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.rollout import Memory, Rollout
from srsoup_lightning.runs.reading import read_runs
from srsoup_lightning.runs.rows import ImageRow, grouped
from srsoup_lightning.search.scalarise import Units, Value

QUANTILES = 101  # evenly spaced from 0 to 1


class ScoredPictures(NamedTuple):
    """Pictures of all prompts.

    Attributes:
        rows: Pictures of each prompt, with the complete paths of their files.
        scores: Standardised scores (K, M') of the K pictures of each prompt, by the M' rewards that have weight.
        quantiles: Quantiles (M', Q) of all of them.
    """

    rows: dict[str, list[ImageRow]]
    scores: dict[str, Tensor]
    quantiles: Tensor


@dataclass(frozen=True, kw_only=True)
class RewardsInContext(Objective):
    """Fine-tuning on scored pictures, whose scores are inputs of the adapter (Yang et al. 2024, arXiv:2402.10207).

    The loss is the plain one of denoising: the squared error of the predicted velocity, at noisy pictures. So the
    adapter learns how pictures of given scores look. At sampling, a preference is a set of target scores, see
    :func:`~srsoup_lightning.adapters.target_scores`. The pictures bring their own prompts, and no reward is
    asked. Scores are standardised over all pictures.

    It needs ``training.conditioning``. The authors write scores into the prompt, and drop them with the prompt for the
    unconditional branch of guidance. Here, they enter by the embedding of the denoising time, in both branches.

    Args:
        runs: Run directories, or .jsonl files of scored pictures.
        share: Share of the levels of noise that a group trains, in (0, 1].

    Raises:
        ValueError: There are no runs, or the share is outside its range.
    """

    runs: tuple[str, ...]
    share: float = 0.5

    needs_conditioning: ClassVar[bool] = True
    draws_inputs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs or isinstance(self.runs, str):
            raise ValueError(f"runs is {self.runs!r}: give a list of run directories, or of .jsonl files of scores")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give a share of the levels in (0, 1]")

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> list[str]:
        """See :meth:`Objective.prompts`; those of the pictures, each as often as it has pictures."""
        pictures = self._pictures(rewards, value)
        return [prompt for prompt, rows in pictures.rows.items() for _ in rows]

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; the number of trained levels."""
        return max(1, int(self.share * kernel.steps))

    def sampling(self, policy: Policy, memory: Memory) -> AbstractContextManager[None]:
        """See :meth:`Objective.sampling`; lets preferences aim at scores, for pictures of the tuned model."""
        (pictures,) = self._known.values()
        policy.aim(pictures.quantiles.tolist())
        return nullcontext()

    def collect(self, rollout: Rollout) -> None:
        """See :meth:`Objective.collect`; latents of pictures."""
        (pictures,) = self._known.values()
        rows, noise = pictures.rows[rollout.noise.prompt], rollout.noise
        order = noise.uniform(len(rows), "pictures").cpu().argsort()
        drawn = order[torch.arange(rollout.members) % len(order)]
        kernel = rollout.problem.kernel
        rollout.steps = evenly_spaced(range(kernel.steps), self.passes(kernel), noise)
        clean = torch.cat([latent_of(Path(rows[number].image), rollout) for number in drawn.tolist()])
        rollout.tensors = {"clean": clean.unsqueeze(1), "scores": pictures.scores[noise.prompt][drawn].unsqueeze(1)}

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes are the trained levels."""
        problem, level, rows = rollout.problem, rollout.steps[index], self.rows(part)
        clean, scores = rollout.take("clean", rows, 0), rollout.take("scores", rows, 0)
        signal, share = problem.kernel.shares(level)
        x = signal * clean + share * rollout.normal(rows, "pictures", "noise", level)
        inputs = torch.cat([torch.ones_like(scores[:, :1]), scores], 1)
        problem.meter.count_gradients(len(x))
        with problem.graph(type(self).__name__, ()):
            found = problem.evaluate(x, level, False, inputs)
            value = velocity_distance(found.x0, clean, share)
        return Loss(value.mean().float(), {"error": value.detach().mean()})

    def _pictures(self, rewards: Sequence[str], value: Value) -> ScoredPictures:
        weighted = tuple(name for name, weight in zip(rewards, value.weights.tolist(), strict=True) if weight > 0)
        if weighted not in self._known:
            self._known[weighted] = self._read(weighted)
        return self._known[weighted]

    def _read(self, weighted: Sequence[str]) -> ScoredPictures:
        rows = [row for run in read_runs(self.runs) for row in scored(run, weighted)]
        if len(rows) < 2:
            raise ValueError(f"{', '.join(self.runs)} have {len(rows)} pictures with scores: give at least 2")
        units = Units.of(scores_of(rows, weighted))
        everything = units.standardise(scores_of(rows, weighted))
        quantiles = torch.quantile(everything, torch.linspace(0, 1, QUANTILES, dtype=everything.dtype), dim=0).T
        by_prompt = {prompt: list(each) for prompt, each in grouped(rows, lambda row: row.prompt).items()}
        scores = {prompt: units.standardise(scores_of(each, weighted)) for prompt, each in by_prompt.items()}
        return ScoredPictures(by_prompt, scores, quantiles)

    @cached_property
    def _known(self) -> dict[tuple[str, ...], ScoredPictures]:
        """Pictures that were read, by the names of the rewards that have weight."""
        return {}
