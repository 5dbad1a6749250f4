"""Sampling of a group by the trained model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import Tensor

from srsoup_lightning.diffusion.transition import Transition
from srsoup_lightning.finetune.base import Rollout


class Step(NamedTuple):
    """One denoising step of all S members of a group.

    Attributes:
        number: Number of the step, from 0.
        state: Latents (S, C, H, W) before the step.
        transition: Gaussian of the latents after the step.
        following: Latents (S, C, H, W) after the step.
    """

    number: int
    state: Tensor
    transition: Transition
    following: Tensor


def trajectory(rollout: Rollout, noisy: Collection[int] | None = None) -> Iterator[Step]:
    """Sample a group step by step, from noise to clean latents.

    Args:
        rollout: Group.
        noisy: Steps that draw noise. None is all steps that the schedule lets.
    """
    problem, kernel, everyone = rollout.problem, rollout.problem.kernel, slice(None)
    plain = kernel.deterministic()
    x = rollout.normal(everyone, "rollout", "start")
    for number in range(kernel.steps):
        chosen = kernel if noisy is None or number in noisy else plain
        transition = chosen.transition(number, x, problem.denoise(x, number))
        state, x = x, transition.mean
        if transition.sigma:
            x = transition.draw(rollout.normal(everyone, "rollout", "step", number))
        yield Step(number, state, transition, x)


def sample(rollout: Rollout) -> Tensor:
    """Sample a group. Return its clean latents (S, C, H, W)."""
    for step in trajectory(rollout):  # noqa: B007 - the last one is used
        pass
    return step.following
