"""Reinforcement on the forward process: clean samples are noised, and the model is to predict the good ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel
from srsoup_lightning.finetune.base import Loss
from srsoup_lightning.finetune.formulas import velocity_distance
from srsoup_lightning.finetune.matching_losses import NFT, Decay, Match, MatchingLoss
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.reinforcement import Reinforcement
from srsoup_lightning.finetune.rollout import Memory, Rollout
from srsoup_lightning.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Matching(Reinforcement):
    """Matching of samples by their advantages: DiffusionNFT (:class:`NFT`), or :class:`AWM`.

    The samples may be drawn by any steps, also by deterministic ones. A round keeps nothing of them but their clean
    latents. These get fresh noise of each trained level. The loss compares the clean latents that the model predicts
    then with the samples. So it needs no densities of steps, and serves diffusions and flows of any prediction type.

    The objective keeps "old" weights, an average of the trained ones over rounds.

    Args:
        eta: See :class:`Process`. By default, the samples are drawn by deterministic steps.
        method: Loss.
        decay: Share of the old weights that stays after each round.
        kl: Weight of the squared distance from the velocities of the base model, at least 0. 0 makes no evaluation of
            the base model. Published settings are 1e-4 for NFT, and 1e-4 to 3e-3 for AWM.
        share: Share of the levels of the span that each group trains, in (0, 1]. At least one is trained. They are
            evenly spaced from a random start. The authors of AWM train about half of them.
        span: Part of the schedule that trained levels are taken from, as shares of its steps. 0 is the pure noise. The
            authors of AWM take (0.07, 0.9).
        train_guidance: Train the guided prediction. By default, the prediction for the prompt alone is trained, with
            half the network evaluations, while the samples are drawn with guidance.

    Raises:
        ValueError: An argument is outside its range, nothing bounds the loss, or see :class:`Reinforcement`.
    """

    eta: float = 0.0
    method: MatchingLoss = NFT()
    decay: Decay = Decay()
    kl: float = at_least(0, default=1e-4)
    share: float = 0.99
    span: tuple[float, float] = (0.0, 1.0)
    train_guidance: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give a share of the levels in (0, 1]")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ValueError(f"span is {tuple(self.span)}: give two growing shares of the schedule in [0, 1]")
        if not (self.kl or self.method.bounded):
            raise ValueError(
                "kl and old_kl are 0 and clip is at least 1, so bad samples push the model away without bound: give "
                "kl, old_kl or a clip below 1"
            )

    def check(self, problem: Problem) -> None:
        """See :meth:`Objective.check`."""
        if not self._span(problem.kernel):
            raise ValueError(
                f"span is {tuple(self.span)} and has none of {problem.kernel.steps} steps: give a wider one"
            )

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; the number of trained levels."""
        return max(1, int(self.share * len(self._span(kernel))))

    def sampling(self, policy: Policy, memory: Memory) -> AbstractContextManager[None]:
        """See :meth:`Objective.sampling`; the old weights draw the samples if the loss is off-policy."""
        if self._keeps_old:
            memory.setdefault("old", policy.weights())
        return policy.acting(memory["old"]) if self.method.off_policy else nullcontext()

    def collect(self, rollout: Rollout) -> Tensor:
        """See :meth:`Objective.collect`."""
        problem, everyone = rollout.problem, slice(None)
        levels = self._span(problem.kernel)
        rollout.steps = evenly_spaced(levels, self.passes(problem.kernel), rollout.noise)
        clean = rollout.sample()
        rollout.tensors["clean"] = clean.unsqueeze(1).cpu()
        if self.method.has_log_prob:
            likelihoods = []
            for index, level in enumerate(rollout.steps):
                preferences = self.preferences(rollout, everyone, index)
                x0 = self._predict(problem, self._noised(rollout, everyone, level), level, preferences)
                likelihoods.append(self.method.log_prob(clean, x0, problem.kernel.shares(level).noise))
            rollout.tensors["log_prob"] = torch.stack(likelihoods, 1).cpu()
        return clean

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes are the trained levels."""
        problem, level, rows = rollout.problem, rollout.steps[index], self.rows(part)
        share, x = problem.kernel.shares(level).noise, self._noised(rollout, rows, level)
        clean, preferences = rollout.take("clean", rows, 0), self.preferences(rollout, rows, index)
        advantage = self.advantages(rollout, rows, preferences)
        log_prob = rollout.take("log_prob", rows, index) if self.method.has_log_prob else None
        old = base = None
        if self.method.takes_old:
            with policy.acting(rollout.memory["old"]):
                old = self._predict(problem, x, level, preferences)
        if self.kl:
            with policy.reference():
                base = self._predict(problem, x, level, preferences)
        problem.meter.count_gradients(len(x))
        with problem.graph(type(self).__name__, ()):
            match = Match(clean, self._predict(problem, x, level, preferences), share, old, log_prob)
            value, logs = self.method.losses(advantage, self.advantage_clip, match)
            if base is not None:
                distance = velocity_distance(match.x0, base, share)
                value, logs = value + self.kl * distance, logs | {"kl": distance}
        return Loss(value.mean().float(), {name: log.detach().mean() for name, log in logs.items()})

    def end_round(self, policy: Policy, memory: Memory, rounds: int) -> None:
        """See :meth:`Objective.end_round`; the old weights follow the trained ones."""
        if self._keeps_old:
            kept, new = self.decay.after(rounds), policy.weights()
            memory["old"] = {
                name: kept * old.to(new[name].device) + (1 - kept) * new[name] for name, old in memory["old"].items()
            }

    @property
    def _keeps_old(self) -> bool:
        return self.method.takes_old or self.method.off_policy

    def _span(self, kernel: Kernel) -> range:
        """Levels that the trained ones are taken from."""
        begin, end = (round(share * kernel.steps) for share in self.span)
        return range(begin, end)

    def _noised(self, rollout: Rollout, rows: slice, level: int) -> Tensor:
        """Return latents (B, C, H, W) of a level, from clean ones and noise of their own."""
        signal, share = rollout.problem.kernel.shares(level)
        return signal * rollout.take("clean", rows, 0) + share * rollout.normal(rows, "matching", level)

    def _predict(self, problem: Problem, x: Tensor, level: int, preferences: Tensor | None) -> Tensor:
        """Return clean latents (B, C, H, W) that the model predicts in latents of a level."""
        return problem.denoise(x, level, guided=self.train_guidance, preferences=preferences).x0


def evenly_spaced(levels: Sequence[int], count: int, noise: NoiseSource) -> tuple[int, ...]:
    """Return different levels, evenly spaced from a random start. Each level is as likely as any other.

    Args:
        levels: Levels to choose from.
        count: Number of levels to choose, at most that of `levels`.
        noise: Source of the random start.
    """
    start = noise.uniform(1, "trained levels").item()
    return tuple(levels[int((number + start) * len(levels) / count)] for number in range(count))
