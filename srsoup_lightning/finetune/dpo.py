"""Direct preference optimisation of a diffusion or a flow on pairs of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rewards.checks import first_line, require_choice
from srsoup_lightning.diffusion.flow import Flow
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Prediction, Shares
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.formulas import velocity_distance
from srsoup_lightning.finetune.pairs import Pairs, RankedSamples
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.problem import Problem
from srsoup_lightning.search.ranked_pairs import margins
from srsoup_lightning.search.scalarise import Value

Target = Literal["noise", "velocity"]


def squared_error(prediction: Prediction, clean: Tensor, noise: Tensor, shares: Shares, target: Target) -> Tensor:
    """Return mean squared errors (B,) of a prediction, in float64.

    Args:
        prediction: Prediction at the latents ``shares.signal * clean + shares.noise * noise``.
        clean: Clean latents (B, C, H, W).
        noise: Noise (B, C, H, W).
        shares: Composition of the latents, with noise above 0.
        target: "noise" compares noise, and "velocity" velocities, see
            :func:`~srsoup_lightning.finetune.formulas.velocity_distance`.
    """
    if target == "velocity":
        return velocity_distance(prediction.x0, clean, shares.noise)
    return (prediction.noise.double() - noise.double()).square().flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class DiffusionDPO(Objective):
    """Direct preference optimisation: the model is to predict winners better than losers, compared with the base model.

    Diffusion-DPO (Wallace et al. 2023, arXiv:2311.12908), for networks of any prediction type, and for flows. A winner
    and its loser get the same noise and the same level. The prediction is that for the prompt alone, without guidance.
    The loss is ``-log sigmoid(margin)``, the mean over pairs, see
    :func:`~srsoup_lightning.search.ranked_pairs.margins`. It stays near log 2 while the model improves. So watch the
    logged ``accuracy``, the share of pairs with a margin above 0, and the change of both errors from those of the base
    model. If ``change/winner`` rises for long, the model gets worse at both pictures: lower the learning rate, or raise
    beta.

    Each pass of a pair costs four network evaluations and two gradients. A graph holds winner and loser.

    Args:
        pairs: Source of the pairs: :class:`RankedSamples` of the model, a :class:`PairTable` of pictures, or
            :class:`RankedRuns`, whose pictures have scores.
        beta: Weight of the divergence from the base model, above 0. It is the paper's beta for errors that are means.
            The authors take 5000. Diffusers' example for LoRAs leaves out the half, so that its beta counts twice.
        target: Error that is compared: that of the "noise", as in the paper, or of the "velocity". None takes the
            velocity for a flow, and otherwise the noise.
        draws: Number of levels that each pair is trained at in a round. They are drawn in equal parts of the schedule,
            so that each level is as likely as any other. The pairs of a group share them.
        train_levels: Number of levels that these are drawn from, evenly spaced as the pipeline's scheduler spaces them.
            The authors take all 1000 of their model. Some schedulers do not accept as many as they were trained on.
        caption_dropout: Share of the passes that train without the prompt, in [0, 1). The authors take 0.2.

    Raises:
        ValueError: An argument is outside its range, or the group has no pairs.
    """

    pairs: Pairs = RankedSamples()
    beta: float = 5000.0
    target: Target | None = None
    draws: int = at_least(1, default=4)
    train_levels: int = at_least(1, default=500)
    caption_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("target", self.target, ["noise", "velocity", None])
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}: give a number above 0, such as 5000")
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}: give a share in [0, 1), such as 0.2")
        if self.train_batch < self.latents_of_item:
            raise ValueError(f"train_batch is {self.train_batch}: a pair has two latents, give at least 2")
        self.pairs.count(self.group_size)

    @property
    def items(self) -> int:
        """See :attr:`Objective.items`; the pairs."""
        return self.pairs.count(self.group_size)

    @property
    def latents_of_item(self) -> int:
        """See :attr:`Objective.latents_of_item`; two."""
        return 2

    def check(self, problem: Problem) -> None:
        """See :meth:`Objective.check`."""
        try:
            self._trained(problem)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"train_levels is {self.train_levels}, which the model's scheduler refuses ({first_line(error)}): give "
                "fewer"
            ) from None

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; the number of drawn levels."""
        return self.draws

    def prompts(self, given: Sequence[str], rewards: Sequence[str], value: Value) -> Sequence[str]:
        """See :meth:`Objective.prompts`; those of the pairs."""
        return self.pairs.prompts(given, rewards, value)

    def collect(self, rollout: Rollout) -> Tensor | None:
        """See :meth:`Objective.collect`; samples of the model, or none where the pairs come from elsewhere."""
        places = (torch.arange(self.draws) + rollout.noise.uniform(self.draws, "level").cpu().double()) / self.draws
        rollout.steps = tuple((places * self.train_levels).long().tolist())
        clean = self.pairs.collect(rollout)
        rollout.tensors["captioned"] = rollout.noise.uniform(self.draws, "caption").cpu() >= self.caption_dropout
        return clean

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Objective.prepare`; makes pairs of the samples."""
        return self.pairs.prepare(own, everyone, memory)

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes are the drawn levels."""
        problem, level, rows = self._captioned(rollout, index), rollout.steps[index], self.rows(part)
        device, shares = problem.device, problem.kernel.shares(level)
        both = torch.cat([rollout.tensors[name][rows] for name in ("winner", "loser")])
        clean, weight = rollout.tensors["clean"][both].to(device), rollout.tensors["weight"][rows].to(device)
        noise = rollout.noise.normal(self.items, "pair", index)[rows].repeat(2, 1, 1, 1)
        x = shares.signal * clean + shares.noise * noise
        target = self.target or ("velocity" if isinstance(problem.kernel, Flow) else "noise")
        with policy.reference():
            prediction = problem.denoise(x, level, guided=False)
        reference = squared_error(prediction, clean, noise, shares, target).view(2, -1)
        problem.meter.count_gradients(len(x))
        with problem.graph(type(self).__name__, ()):
            prediction = problem.denoise(x, level, guided=False)
            error = squared_error(prediction, clean, noise, shares, target).view(2, -1)
            margin = margins(error, reference, self.beta)
            value = -(weight * logsigmoid(margin)).mean()
        error, margin = error.detach(), margin.detach()
        logs = {"accuracy": (weight * (margin.sign() + 1) / 2).mean(), "margin": (weight * margin).mean()}
        for name, own, base in zip(("winner", "loser"), error, reference, strict=True):
            logs |= {f"error/{name}": own.mean(), f"change/{name}": (own - base).mean()}
        return Loss(value.float(), {name: log.float() for name, log in logs.items()})

    def _trained(self, problem: Problem) -> Problem:
        """Return the process with the levels that are trained."""
        return problem.reschedule(self.train_levels, self.eta)

    def _captioned(self, rollout: Rollout, index: int) -> Problem:
        """Return the process of a pass: that of the prompt, or that of no prompt."""
        if rollout.tensors["captioned"][index] or rollout.problem_of is None:
            return self._trained(rollout.problem)
        return self._trained(rollout.problem_of(""))
