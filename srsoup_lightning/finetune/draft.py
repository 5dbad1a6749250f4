"""Direct fine-tuning on differentiable rewards: gradients through the decoder and the last steps of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import NormalDist
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Prediction
from srsoup_lightning.finetune.base import Loss, Objective
from srsoup_lightning.finetune.formulas import velocity_distance
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.reinforcement import value_in_first_units
from srsoup_lightning.finetune.rollout import Memory, Rollout, Scores
from srsoup_lightning.search.scalarise import Units, Value

Truncation = Literal["fixed", "uniform", "normal"]
CENTRE, WIDTH = 42 / 50, 5 / 50  # mean and standard deviation of AlignProp's cut, in shares of the steps


def chances(truncation: Truncation, steps: int) -> Tensor:
    """Return the probabilities (T - 1,) that 1, 2 ... T - 1 of T steps come before the cut, in float64.

    AlignProp (Prabhudesai et al. 2023, arXiv:2310.03739) draws the number of steps before the cut, rounds it down, and
    draws again until it is in 1 ... T - 1. These are the probabilities of what comes out.

    Args:
        truncation: "uniform" draws from 0 ... T - 1, and "normal" from a normal distribution.
        steps: Number T of denoising steps, at least 2.
    """
    if truncation == "uniform":
        masses = [1.0] * (steps - 1)
    else:
        below = [NormalDist(CENTRE, WIDTH).cdf(cut / steps) for cut in range(1, steps + 1)]
        masses = [after - before for before, after in pairwise(below)]
    return torch.tensor(masses, dtype=torch.float64) / sum(masses)


@dataclass(frozen=True, kw_only=True)
class DRaFT(Objective):
    """Gradients of differentiable rewards through the decoder and the last K steps of sampling.

    DRaFT (Clark et al. 2023, arXiv:2309.17400) and AlignProp (Prabhudesai et al. 2023, arXiv:2310.03739). The loss is
    minus the value of the picture. The latent that enters the last K steps counts as a constant. AlignProp's code
    detaches the outputs of the network in the steps before the cut, and not the latents. This is the same, because the
    first latent has no gradient either. A pixel that the decoder clamps to 0 or 1 has no gradient, as in both papers.

    A single reward is taken in its own unit. Several are added in units of their standard deviations in the samples of
    the first round, before the first optimizer step. A reward that is constant there has no influence.

    A round of G groups of S samples, T steps, M rewards with weight and E evaluations for a prediction costs
    ``G S E (T + n)`` network evaluations, ``G S (K + n)`` gradients, ``G S M (1 + n)`` queries and ``G S (1 + n)``
    decodings, where n is `low_variance`. A `kl` above 0 adds ``G S E (2 K - 1)`` evaluations and ``G S (K - 1)``
    gradients. With several rewards, the first round adds ``G S E T`` evaluations, ``G S M`` queries and ``G S``
    decodings. The graph of K + n network evaluations and 1 + n decodings of each latent is in memory at once.

    Args:
        last_steps: Number K of steps with a gradient, at most T.
        truncation: "fixed" takes `last_steps`. The others draw K for each group, from 1 ... T - 1, as AlignProp does:
            "uniform", or "normal", whose cut lies at 84 % of the steps on average, with a standard deviation of 10 %.
        low_variance: Number n of further last steps of each sample, from the sample with new noise at the last noisy
            level. The loss is the mean over them and the sample itself. This is DRaFT-LV, for a K of 1.
        target: Value that is aimed at: the loss is the distance from it. None aims at the largest value.
        kl: Weight of the mean squared distance of the velocity from that of the base model, over the steps with a
            gradient, at least 0. The latents count as constants in it. 0 makes no evaluation of the base model.
        checkpointing: Keep no activations of the network and the decoder, and compute them again for the gradient. So
            the memory hardly grows with K. This costs another evaluation for each gradient, which is not counted.

    Raises:
        ValueError: An argument is outside its range, or two of them do not fit together.
    """

    last_steps: int = at_least(1, default=1)
    truncation: Truncation = "fixed"
    low_variance: int = at_least(0, default=0)
    target: float | None = None
    kl: float = at_least(0, default=0.0)
    checkpointing: bool = False

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("truncation", self.truncation, Truncation)
        drawn = self.truncation != "fixed"
        if self.last_steps > self.num_inference_steps:
            raise ValueError(
                f"last_steps is {self.last_steps}, and there are {self.num_inference_steps} steps: give at most "
                "num_inference_steps"
            )
        if drawn and (self.last_steps > 1 or self.num_inference_steps < 2):
            raise ValueError(
                f"truncation is {self.truncation}, which draws the number of last steps from "
                f"1 ... {self.num_inference_steps - 1}: leave last_steps out, and give at least 2 num_inference_steps"
            )
        if self.low_variance and (drawn or self.last_steps > 1):
            raise ValueError(
                f"low_variance is {self.low_variance}, for last_steps: 1 and a fixed truncation alone: leave it out"
            )

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; one."""
        return 1

    def collect(self, rollout: Rollout) -> Tensor | None:
        """See :meth:`Objective.collect`; samples for the units of several rewards, in the first round alone."""
        steps = rollout.problem.kernel.steps
        first = steps - self.last_steps
        if self.truncation != "fixed":
            drawn = rollout.noise.uniform(1, "truncation").item()
            first = 1 + int((chances(self.truncation, steps).cumsum(0) < drawn).sum().clamp_max(steps - 2))
        rollout.steps = tuple(range(first, steps))
        if rollout.round or len(weighted(rollout)) == 1:
            return None
        return rollout.sample()

    def prepare(self, own: Sequence[Rollout], everyone: Sequence[Scores], memory: Memory) -> dict[str, float]:
        """See :meth:`Objective.prepare`; sets the units of several rewards."""
        asked = [group.rewards for group in everyone if len(group.rewards)]
        if asked:
            value_in_first_units(torch.cat(asked), memory, own[0].value)
        if "units" in memory:
            for rollout in own:
                zero, unit = (torch.tensor(memory["units"][key], dtype=torch.float32) for key in ("zero", "unit"))
                device = rollout.problem.device
                rollout.value = replace(rollout.value, units=Units(zero.to(device), unit.to(device)))
        return {}

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; it samples the part."""
        problem, rows, columns = rollout.problem, self.rows(part), weighted(rollout)
        names = [problem.rewards[column] for column in columns]
        graph = partial(problem.graph, type(self).__name__, names, checkpointing=self.checkpointing)
        first, steps, gaps = rollout.steps[0], problem.kernel.steps, []
        x = noise_of(rollout, rows, "start")
        for step in range(first):
            x = advanced(rollout, rows, x, step, problem.denoise(x, step))
        for step in rollout.steps:
            state, reference = x.detach(), None
            if self.kl:
                with policy.reference():
                    reference = problem.denoise(state, step)
            with graph():
                prediction = predicted(rollout, x, step)
                x = advanced(rollout, rows, x, step, prediction)
                if reference is not None:
                    own = prediction if step == first else predicted(rollout, state, step)
                    gaps.append(velocity_distance(own.x0, reference.x0, problem.kernel.shares(step).noise))
        with graph():
            clean = torch.cat([x, self._again(rollout, rows, x.detach())]) if self.low_variance else x
            rewards = problem.rewards_of(clean, steps, names)
            value = value_of(rollout.value, columns)(rewards)
            loss = (-value if self.target is None else (value - self.target).abs()).mean()
            logs = {"value": value[: len(x)].mean()}
            logs |= {f"reward/{name}": rewards[: len(x), column].mean() for column, name in enumerate(names)}
            if gaps:
                logs["kl"] = torch.stack(gaps).mean().float()
                loss = loss + self.kl * logs["kl"]
        return Loss(loss, {name: log.detach() for name, log in logs.items()})

    def _again(self, rollout: Rollout, rows: slice, clean: Tensor) -> Tensor:
        """Return the results (n B, C, H, W) of n further last steps, each from samples (B, C, H, W) with new noise."""
        kernel, copies = rollout.problem.kernel, range(1, self.low_variance + 1)
        z, last = noise_of(rollout, rows, "renoise", copies=copies), kernel.steps - 1
        x = kernel.renoise(kernel.steps, clean.repeat(len(copies), 1, 1, 1), last, z)
        return advanced(rollout, rows, x, last, predicted(rollout, x, last), copies=copies)


def weighted(rollout: Rollout) -> list[int]:
    """Return the indices of the rewards with weight."""
    return [column for column, weight in enumerate(rollout.value.weights.tolist()) if weight > 0]


def value_of(value: Value, columns: Sequence[int]) -> Value:
    """Return the value of some rewards alone."""
    units = value.units and Units(value.units.zero[columns], value.units.unit[columns])
    return replace(value, weights=value.weights[columns], units=units)


def noise_of(rollout: Rollout, rows: slice, *purpose: object, copies: Sequence[int] = (0,)) -> Tensor:
    """Return noise (copies * B, C, H, W) for some members, of their own in each copy."""
    return torch.cat([rollout.normal(rows, "draft", *purpose, copy) for copy in copies])


def advanced(
    rollout: Rollout, rows: slice, x: Tensor, step: int, prediction: Prediction, copies: Sequence[int] = (0,)
) -> Tensor:
    """Return the next latents of latents x (copies * B, C, H, W) of level `step`."""
    transition = rollout.problem.kernel.transition(step, x, prediction)
    if transition.sigma == 0:
        return transition.mean
    return transition.draw(noise_of(rollout, rows, "step", step, copies=copies))


def predicted(rollout: Rollout, x: Tensor, step: int) -> Prediction:
    """Return a prediction with the graph, and count its gradient."""
    rollout.problem.meter.count_gradients(len(x))
    return rollout.problem.denoise(x, step)
