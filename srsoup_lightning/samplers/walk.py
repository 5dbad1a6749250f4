"""The loop over denoising steps, and the unsteered trajectories that it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import Measures, Moment, Observation, OnStep

Step = Callable[[Tensor, int], tuple[Tensor, Observation | Measures | None]]
"""From latents of level i and i to latents of level i + 1, and observations on the way."""


def walk(problem: Problem, x: Tensor, step: Step, on_step: OnStep, first: int = 0, last: int | None = None) -> Tensor:
    """Take the steps first ... last - 1.

    Args:
        problem: Denoising process.
        x: Latents (B, C, H, W) of level `first`.
        step: Makes one step.
        on_step: Callback after every step.
        first: First step.
        last: Level to stop at. None goes on to the clean latents.

    Returns:
        Latents (B, C, H, W) of level `last`.
    """
    steps = problem.kernel.steps
    for index in range(first, steps if last is None else last):
        x, observation = step(x, index)
        on_step(Moment(index + 1, steps, problem.ledger, observation))
    return x


def unsteered(
    problem: Problem,
    noise: NoiseSource,
    members: Sequence[int],
    on_step: OnStep,
    last: int | None = None,
    preferences: Tensor | None = None,
) -> Tensor:
    """Draw samples of the model, each member with random numbers of its own.

    Args:
        problem: Denoising process.
        noise: Source of all random numbers.
        members: Indices of the members.
        on_step: Callback after every step.
        last: Level to stop at. None goes on to the clean latents.
        preferences: Preference (len(members), M) that each one serves, where adapters make that matter.

    Returns:
        Latents (len(members), C, H, W) of level `last`.
    """

    def step(x: Tensor, index: int) -> tuple[Tensor, None]:
        prediction = problem.denoise(x, index, preferences=preferences)
        return draw(problem, x, index, prediction, noise, members), None

    return walk(problem, torch.stack([noise.start(member) for member in members]), step, on_step, last=last)


def jumped(problem: Problem, noise: NoiseSource, members: Sequence[int], on_step: OnStep, level: int) -> Tensor:
    """Take samples of the model to a level by one deterministic step, for one prediction each.

    Args:
        problem: Denoising process.
        noise: Source of all random numbers.
        members: Indices of the members, each with a start of its own.
        on_step: Callback after the step.
        level: Level to stop at. 0 takes no step.

    Returns:
        Latents (len(members), C, H, W) of that level.
    """
    x = torch.stack([noise.start(member) for member in members])
    if level == 0:
        return x
    x = problem.kernel.jump(level, problem.denoise(x, 0))
    on_step(Moment(level, problem.kernel.steps, problem.ledger))
    return x


def unsteered_previews(problem: Problem, noise: NoiseSource) -> Tensor:
    """Return the clean latents (T + 1, C, H, W) that the unsteered trajectory has predicted at each level."""
    previews: list[Tensor] = []

    def step(x: Tensor, index: int) -> tuple[Tensor, None]:
        prediction = problem.denoise(x, index)
        previews.append(prediction.x0)
        return draw(problem, x, index, prediction, noise, [0]), None

    previews.append(walk(problem, noise.start().unsqueeze(0), step, lambda _: None))
    return torch.cat(previews)


def draw(
    problem: Problem, x: Tensor, step: int, prediction: Prediction, noise: NoiseSource, members: Sequence[int]
) -> Tensor:
    """Draw the next latents (B, C, H, W) of latents x (B, C, H, W), each with the noise of its member.

    Args:
        problem: Denoising process.
        x: Latents of level `step`.
        step: Index of the step.
        prediction: Prediction at x.
        noise: Source of all random numbers.
        members: Index of each latent's member, B of them.
    """
    transition = problem.kernel.transition(step, x, prediction)
    if transition.sigma == 0:
        return transition.mean
    return transition.draw(torch.stack([noise.step(step, member) for member in members]))


class Completion(NamedTuple):
    """Clean latents that latents x of a level were completed to.

    Attributes:
        clean: Clean latents, (B, C, H, W).
        level: Level of the latents that they are predicted from, the last one that the network saw.
        first: Prediction at x, (B, C, H, W) each.
    """

    clean: Tensor
    level: int
    first: Prediction


def complete(
    problem: Problem,
    x: Tensor,
    level: int,
    evaluations: int,
    guided: bool = True,
    preferences: Tensor | None = None,
) -> Completion:
    """Complete latents to clean latents by deterministic steps over evenly spaced levels.

    With one evaluation, the clean latents are the Tweedie estimate. With as many as there are steps left, they are
    those of the deterministic sampler. Latents of the cleanest level are clean already, and cost nothing.

    Args:
        problem: Denoising process.
        x: Latents (B, C, H, W) of a level.
        level: Their level, 0 ... T.
        evaluations: Number of predictions for each latent, at least 1, and no more than there are steps left.
        guided: Whether the predictions have classifier-free guidance.
        preferences: Preference (B, M) that each latent serves, where adapters make that matter.
    """
    left = problem.kernel.steps - level
    count = min(evaluations, left)
    levels = [level + left * k // count for k in range(1, count)]
    first = prediction = problem.preview(x, level, "guided" if guided else "unguided", preferences=preferences)
    for there in levels:
        prediction = problem.denoise(problem.kernel.jump(there, prediction), there, guided, preferences)
    return Completion(prediction.x0, levels[-1] if levels else level, first)
