"""Optimisation of the noise of a trajectory by gradients through all of its steps."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.result import Moment, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.unrolled import Penalty, Unrolled, noises_of
from srsoup_lightning.search.directions import rms


class Found(NamedTuple):
    """Best picture of an iteration for each of P preferences, and the direction in which its noise goes on.

    Attributes:
        clean: Final latents of the pictures, (P, C, H, W).
        values: Values of the pictures to their preferences, (P,).
        scores: Numbers by which the best picture of all iterations is chosen, (P,).
        ascent: Directions in which the noise is improved, (P, n, C, H, W). None in the last iteration.
    """

    clean: Tensor
    values: Tensor
    scores: Tensor
    ascent: Tensor | None


Iterate = Callable[[Tensor, int], Found]
"""From the noise (P, n, C, H, W) of each preference and the number of the iteration to what the iteration finds."""


@dataclass(frozen=True, kw_only=True)
class NoiseOptimisation(Scalarised, abc.ABC):
    """Base of methods that optimise noise by gradients through the whole trajectory.

    A subclass says which noise is optimised, by which optimizer and along which direction. All preferences begin with
    the same noise, that of the unsteered picture of the seed. A preference takes the best picture of all iterations.

    Args:
        iterations: Number I of iterations, at least 1. The last one makes pictures alone.
        rate: Learning rate of the optimizer, above 0.
        clip: Largest norm of the gradient of a preference, above 0. A longer one is scaled down to it.
        sphere: Keep the norm of each noise, by a Riemannian step on its sphere: the gradient loses its part along the
            noise, and the result is scaled back. A penalty on norms then has no effect.
        checkpointing: Compute activations again for the gradient and do not keep them. So the memory hardly grows with
            the number of steps. This costs another evaluation for each gradient, which is not counted.

    Raises:
        ValueError: An argument is outside its range, or the scalarisation is one of ranks.
    """

    iterations: int = at_least(1, default=50)
    rate: float = 0.01
    clip: float = 1.0
    sphere: bool = False
    checkpointing: bool = field(default=True, metadata={"operational": True})

    every_step: ClassVar[bool]
    """Whether the noise of the steps is optimised too, and not that of the start alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_above_0("rate", "clip")
        if self.scalarisation == "ranks":
            raise ValueError(
                f"scalarisation is ranks: {type(self).__name__} compares pictures of different iterations, give linear"
            )

    def require_above_0(self, *options: str) -> None:
        """Check options by name.

        Raises:
            ValueError: One is not above 0.
        """
        for name in options:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")

    @abc.abstractmethod
    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """Return the optimizer of noises (P, n, C, H, W), which treats each number by itself."""

    @abc.abstractmethod
    def begin(self, evaluator: Evaluator, noise: NoiseSource, first: Tensor) -> Iterate:
        """Return the function that makes an iteration.

        Args:
            evaluator: Value of pictures to the P preferences.
            noise: Source of all random numbers.
            first: Noise (n, C, H, W) that the optimisation begins with.
        """

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem = evaluator.problem
        first = noises_of(problem, noise, self.every_step)
        iterate = self.begin(evaluator, noise, first)
        with problem.graph(type(self).__name__, ()):
            noises = problem.variable(first.expand(len(evaluator), *first.shape))
            optimizer = self.optimizer(noises)
        clean = torch.empty_like(noises[:, 0])
        best = torch.full((len(noises),), -torch.inf, dtype=torch.float32, device=problem.device)
        for iteration in range(self.iterations):
            here = noises.detach().clone()
            found = iterate(here, iteration)
            better = found.scores > best
            best, clean[better] = torch.maximum(best, found.scores), found.clean[better]
            if found.ascent is not None:
                with problem.graph(type(self).__name__, ()):
                    self._step(optimizer, noises, here, found.ascent)
            measured = {
                "value": found.values,
                "best": best,
                "mean square of the noise": here.square().flatten(1).mean(1),
            }
            on_step(Moment(iteration + 1, self.iterations, problem.ledger, evaluator.measures(measured)))
        return clean

    def last(self, iteration: int) -> bool:
        """Return whether this is the last iteration, after which the noise stays as it is."""
        return iteration + 1 == self.iterations

    def _step(self, optimizer: torch.optim.Optimizer, noises: Tensor, here: Tensor, ascent: Tensor) -> None:
        """Change noises (P, n, C, H, W), whose values are `here`, by one step."""
        if self.sphere:
            ascent = ascent - (ascent * here).sum((2, 3, 4), True) / here.square().sum((2, 3, 4), True) * here
        length = torch.linalg.vector_norm(ascent.flatten(1), dim=1).view(-1, 1, 1, 1, 1)
        noises.grad = -ascent * (self.clip / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)
        optimizer.step()
        if self.sphere:
            with torch.no_grad():
                noises *= rms(here) / rms(noises)


@dataclass(frozen=True, kw_only=True)
class RewardAscent(NoiseOptimisation, abc.ABC):
    """Base of methods that optimise noise by the gradient of its picture's value, through the decoder and the rewards.

    A subclass says which penalty of the noise is taken off. An iteration makes one picture for a preference, and the
    first one is the unsteered picture of the seed. The best picture is that of the highest value, without the penalty
    unless the subclass says otherwise.

    All preferences stand at the first picture, so each reward is differentiated once there. With `units`, the objective
    is the value in these units. Without, the unit of a reward is the length of its gradient at the first picture, so
    that all begin with the same pull.

    For one preference, I iterations take ``I T`` predictions, I queries of each reward with weight and, from two
    iterations on, ``(M + I - 2) T`` gradient evaluations for M rewards with weight. P preferences together take
    ``(1 + (I - 1) P) T`` predictions and ``(M + (I - 2) P) T`` gradient evaluations. Other arguments are those of
    :class:`NoiseOptimisation`.

    Args:
        probes: Number q of pictures of disturbed noise that estimate the gradient of a reward without one, in each
            iteration but the last, at least 0. 0 refuses such rewards. The gradient of the pictures themselves is
            computed: this is the hybrid form of DNO. For one preference it costs ``q T`` predictions an iteration, and
            q queries of each such reward.
        disturbance: Standard deviation of the noise that disturbs it, above 0.

    Raises:
        ValueError: An argument is outside its range, or the scalarisation is one of ranks.
    """

    probes: int = at_least(0, default=0)
    disturbance: float = 0.01

    needs_gradient: ClassVar[bool] = True
    cost_varies: ClassVar[bool] = False
    picks_by_penalty: ClassVar[bool] = False
    """Whether the returned picture is the best one by value minus penalty, and not by value alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_above_0("disturbance")

    def lacking(self, preferences: Preferences, differentiable: Collection[str]) -> list[str]:
        """See :meth:`Sampler.lacking`; probes take the place of gradients."""
        return [] if self.probes else super().lacking(preferences, differentiable)

    @abc.abstractmethod
    def penalty_of(self, unrolled: Unrolled, noises: Tensor) -> Callable[[int], Penalty]:
        """Return the penalties of noise in units of value, by the number of the iteration.

        What a penalty says of the predicted noise must have no gradient at the first picture, as a distance from the
        unsteered trajectory has none there, see :meth:`Unrolled.first`.

        Args:
            unrolled: Trajectories of the noise.
            noises: Noise (n, C, H, W) that the optimisation begins with.
        """

    def begin(self, evaluator: Evaluator, noise: NoiseSource, first: Tensor) -> Iterate:
        """See :meth:`NoiseOptimisation.begin`."""
        method, steps = type(self).__name__, evaluator.problem.kernel.steps
        unrolled = Unrolled(evaluator, noise, method, self.checkpointing, self.probes, self.disturbance)
        penalty = self.penalty_of(unrolled, first)

        def iterate(noises: Tensor, iteration: int) -> Found:
            if self.last(iteration):
                found = unrolled.pictures(noises, penalty(iteration))
            elif iteration == 0:
                found = unrolled.first(first, penalty(iteration))
            else:
                found = unrolled.ascents(noises, penalty(iteration), iteration)
            values = evaluator.values(found.rewards.unsqueeze(1), found.clean.unsqueeze(1), steps).squeeze(1)
            scores = values - found.penalties if self.picks_by_penalty else values
            return Found(found.clean, values, scores, found.ascent)

        return iterate
