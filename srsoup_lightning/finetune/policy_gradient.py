"""Policy gradients on the Gaussian steps of denoising: DDPO for diffusions, and Flow-GRPO for flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.flow import Flow
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Transition
from srsoup_lightning.finetune.base import Loss
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.reinforcement import Reinforcement
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.finetune.steps import AllSteps, Steps
from srsoup_lightning.problem import Problem

Trust = Literal["clip", "guard", "dppo"]
Space = Literal["x", "v"]


def clipped_loss(advantage: Tensor, ratio: Tensor, clip: float) -> Tensor:
    """Return ``max(-A r, -A clip(r, 1 - c, 1 + c))``, (B,), of advantages (B,) and likelihood ratios (B,).

    Schulman et al. 2017 (PPO), arXiv:1707.06347, equation 7, for a step of denoising as in Black et al. 2023 (DDPO),
    arXiv:2305.13301.
    """
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


def mean_deviation(mean: Tensor, other: Tensor, scale: float) -> Tensor:
    """Return ``|mean - other|^2 / (2 d scale^2)``, (B,), of means (B, C, H, W) with d numbers each.

    With sigma as the scale, this is the Kullback-Leibler divergence of two Gaussians, as the mean over d.
    """
    return (mean - other).square().flatten(1).mean(1) / (2 * scale**2)


def guarded_ratio(log_ratio: Tensor, deviation: Tensor, sigma: float) -> Tensor:
    """Return ``exp(sigma log r + sigma D)``, (B,), where D is :func:`mean_deviation` of the new mean and the old one.

    The exponent is ``mean_d(z (mu - mu_old))``, where z is the noise of the sample. It has one scale at all steps, and
    its mean under the old policy is 0 (GRPO-Guard, arXiv:2510.22319).

    Args:
        log_ratio: Log-likelihood ratios (B,), as the mean over d.
        deviation: Deviations (B,) with the scale sigma.
        sigma: Standard deviation of the step.
    """
    return ((log_ratio + deviation) * sigma).exp()


def divergence_masked_loss(advantage: Tensor, ratio: Tensor, deviation: Tensor, limit: float) -> Tensor:
    """Return ``-A r``, (B,), without a gradient where the step is beyond the limit and would go further away.

    Flow-DPPO, arXiv:2606.11025. Steps that lead back to the old policy stay.

    Args:
        advantage: Advantages (B,).
        ratio: Likelihood ratios (B,).
        deviation: Deviations (B,) of the new mean from the old one.
        limit: Deviation from which on steps away are dropped.
    """
    away = ((advantage > 0) & (ratio > 1)) | ((advantage < 0) & (ratio < 1))
    dropped = (deviation > limit) & away
    return torch.where(dropped, (-advantage * ratio).detach(), -advantage * ratio)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(Reinforcement):
    """Policy gradient on the steps of denoising, each a Gaussian whose likelihood is known.

    On DDIM it is DDPO (Black et al. 2023, arXiv:2305.13301), for networks that predict noise, velocity or the sample.
    On a rectified flow it is Flow-GRPO (Liu et al. 2025, arXiv:2505.05470), with the transition that ``loading`` names.
    Log-likelihoods are means over the numbers of a latent. Steps without noise are not trained.

    Args:
        trust: "clip" clips likelihood ratios, as PPO does. "guard" also brings the ratios of all steps to one scale
            (GRPO-Guard). "dppo" drops steps beyond a divergence that lead away (Flow-DPPO).
        clip: Largest change of a ratio that is rewarded; for "dppo", the largest divergence. Above 0.
        kl: Weight of the divergence from the base model, at least 0. 0 makes no evaluation of the base model.
        kl_space: "x" compares the means of the next latent, in units of sigma. "v" compares the velocities of a flow.
        steps: Trained steps: :class:`AllSteps`, a :class:`RandomSteps` share of them, or a :class:`Window`.

    Raises:
        ValueError: An argument is outside its range, or see :class:`Reinforcement`.
    """

    trust: Trust = "clip"
    clip: float = 1e-4
    kl: float = at_least(0, default=0.0)
    kl_space: Space = "x"
    steps: Steps = AllSteps()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("trust", self.trust, Trust)
        require_choice("kl_space", self.kl_space, Space)
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}: give a number above 0, such as 1e-4")

    def check(self, problem: Problem) -> None:
        """See :meth:`Objective.check`."""
        kernel = problem.kernel
        if self.kl and self.kl_space == "v" and not isinstance(kernel, Flow):
            raise ValueError("kl_space is v, and the model is a diffusion, not a flow: give kl_space: x")
        self.steps.check(kernel)

    def passes(self, kernel: Kernel) -> int:
        """See :meth:`Objective.passes`; the number of trained steps."""
        return self.steps.count(kernel)

    def collect(self, rollout: Rollout) -> Tensor:
        """See :meth:`Objective.collect`."""
        kernel = rollout.problem.kernel
        noisy = self.steps.noisy(kernel, rollout.noise, rollout.round)
        rollout.steps = self.steps.trained(kernel, rollout.noise, rollout.round)
        kept: dict[str, list[Tensor]] = {"state": [], "next": [], "log_prob": [], "mean": []}
        for number, state, transition, following in rollout.trajectory(noisy):
            if number in rollout.steps:
                parts = (state, following, transition.log_prob(following), transition.mean)
                for name, tensor in zip(kept, parts, strict=True):
                    kept[name].append(tensor.cpu())
        rollout.tensors = {name: torch.stack(tensors, 1) for name, tensors in kept.items()}
        return following

    def loss(self, rollout: Rollout, part: int, index: int, policy: Policy) -> Loss:
        """See :meth:`Objective.loss`; the passes are the trained steps."""
        problem, step, rows = rollout.problem, rollout.steps[index], self.rows(part)
        state, following, before, old_mean = (
            rollout.take(name, rows, index) for name in ("state", "next", "log_prob", "mean")
        )
        advantage = rollout.advantages[rows].to(problem.device)
        reference = self._reference(problem, state, step, policy)
        problem.meter.count_gradients(len(state))
        with problem.graph(type(self).__name__, ()):
            prediction = problem.denoise(state, step)
            transition = problem.kernel.transition(step, state, prediction)
            log_ratio = transition.log_prob(following) - before
            deviation = mean_deviation(transition.mean, old_mean, transition.sigma)
            ratio, each = self._trusted(advantage, log_ratio, deviation, transition.sigma)
            value = each.mean()
            logs = {
                f"ratio/step_{step:02d}": ratio.mean(),
                "ratio/clipped": ((ratio - 1).abs() > self.clip).float().mean(),
                "ratio/deviation_from_old": deviation.mean(),
            }
            if reference is not None:
                velocity = prediction.noise - prediction.x0
                divergence = (
                    mean_deviation(transition.mean, reference[0].mean, transition.sigma)
                    if self.kl_space == "x"
                    else (velocity - reference[1]).square().flatten(1).mean(1)
                ).mean()
                value = value + self.kl * divergence
                logs["kl"] = divergence
        return Loss(value, {name: log.detach() for name, log in logs.items()})

    def _trusted(self, advantage: Tensor, log_ratio: Tensor, deviation: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return ratios (B,) and losses (B,)."""
        if self.trust == "guard":
            ratio = guarded_ratio(log_ratio, deviation, sigma)
            return ratio, clipped_loss(advantage, ratio, self.clip)
        ratio = log_ratio.exp()
        if self.trust == "dppo":
            return ratio, divergence_masked_loss(advantage, ratio, deviation, self.clip)
        return ratio, clipped_loss(advantage, ratio, self.clip)

    def _reference(
        self, problem: Problem, state: Tensor, step: int, policy: Policy
    ) -> tuple[Transition, Tensor] | None:
        """Return the base model's transition from the state (B, C, H, W) and its velocity, if they are needed."""
        if not self.kl:
            return None
        with policy.reference():
            prediction = problem.denoise(state, step)
        return problem.kernel.transition(step, state, prediction), prediction.noise - prediction.x0
