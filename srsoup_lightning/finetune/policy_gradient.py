"""Policy gradients on the Gaussian steps of denoising: DDPO for diffusions, and Flow-GRPO for flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.flow import Flow
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Prediction
from srsoup_lightning.finetune.base import Loss
from srsoup_lightning.finetune.formulas import (
    clipped_loss,
    divergence_masked_loss,
    guarded_ratio,
    mean_deviation,
    velocity_distance,
)
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.finetune.reinforcement import Reinforcement
from srsoup_lightning.finetune.rollout import Rollout
from srsoup_lightning.finetune.steps import AllSteps, Steps
from srsoup_lightning.problem import Problem

Trust = Literal["clip", "guard", "dppo"]
Space = Literal["x", "v"]


@dataclass(frozen=True, kw_only=True)
class PolicyGradient(Reinforcement):
    """Policy gradient on the steps of denoising, each a Gaussian whose likelihood is known.

    On DDIM it is DDPO (Black et al. 2023, arXiv:2305.13301), for networks that predict noise, velocity or the sample.
    On a rectified flow it is Flow-GRPO (Liu et al. 2025, arXiv:2505.05470), with the transition that ``loading`` names.
    Log-likelihoods are means over the numbers of a latent. Steps without noise are not trained.

    With `hindsight`, a step counts as one for the drawn preference: its ratio compares the trained weights with those
    that sampled it, both at that preference. This takes another evaluation of each trained step. The ratio between the
    two preferences is left out; advantages whose mean is 0 keep what it would add small.

    Args:
        trust: "clip" clips likelihood ratios, as PPO does. "guard" also brings the ratios of all steps to one scale
            (GRPO-Guard). "dppo" drops steps beyond a divergence that lead away (Flow-DPPO).
        clip: Largest change of a ratio that is rewarded; for "dppo", the largest divergence. Above 0.
        kl: Weight of the divergence from the base model, at least 0. 0 makes no evaluation of the base model.
        kl_space: "x" compares the means of the next latent, in units of sigma. "v" compares the velocities of a flow.
        steps: Trained steps: :class:`AllSteps`, a :class:`RandomSteps` share of them, or a :class:`Window`.
        one_start: All samples of a group start from the same noise, as in DanceGRPO (Xue et al. 2025,
            arXiv:2505.07818) and MixGRPO. Then only the noise of the steps, whose likelihood is trained, makes their
            rewards differ.

    Raises:
        ValueError: An argument is outside its range, or see :class:`Reinforcement`.
    """

    trust: Trust = "clip"
    clip: float = 1e-4
    kl: float = at_least(0, default=0.0)
    kl_space: Space = "x"
    steps: Steps = AllSteps()
    one_start: bool = False

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
        for number, state, transition, following in rollout.trajectory(noisy, one_start=self.one_start):
            if number in rollout.steps:
                index = rollout.steps.index(number)
                if (preferences := self.preferences(rollout, slice(None), index)) is not None:
                    served = rollout.problem.denoise(state, number, preferences=preferences)
                    transition = kernel.transition(number, state, served)
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
        preferences = self.preferences(rollout, rows, index)
        advantage = self.advantages(rollout, rows, preferences)
        reference = None
        if self.kl:
            with policy.reference():
                reference = problem.denoise(state, step, preferences=preferences)
        problem.meter.count_gradients(len(state))
        with problem.graph(type(self).__name__, ()):
            prediction = problem.denoise(state, step, preferences=preferences)
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
                logs["kl"] = self._divergence(problem.kernel, step, state, prediction, reference).mean()
                value = value + self.kl * logs["kl"]
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

    def _divergence(
        self, kernel: Kernel, step: int, state: Tensor, prediction: Prediction, reference: Prediction
    ) -> Tensor:
        """Return the divergences (B,) of predictions at a state (B, C, H, W) from those of the base model."""
        if self.kl_space == "v":
            return velocity_distance(prediction.x0, reference.x0, kernel.shares(step).noise).float()
        own, base = (kernel.mean(step, state, each) for each in (prediction, reference))
        return mean_deviation(own, base, kernel.sigma(step))
