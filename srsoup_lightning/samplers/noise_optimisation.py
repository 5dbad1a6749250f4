"""Optimisation of the noise of a trajectory by the gradient of its picture's value, through all its steps."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.result import Moment, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.unrolled import Penalty, Unrolled, noises_of
from srsoup_lightning.search.directions import rms
from srsoup_lightning.search.noise_likelihood import improbability, norm_penalty


@dataclass(frozen=True, kw_only=True)
class NoiseOptimisation(Scalarised, abc.ABC):
    """Base of methods that optimise noise by gradients through the whole trajectory, the decoder and the rewards.

    A subclass says which noise is optimised, by which optimizer and with which penalty. All preferences begin with the
    same noise. The first picture is the unsteered one of the seed. Of all its pictures, a preference takes the one of
    the highest value, without the penalty of its noise unless the subclass says otherwise.

    With `units`, the objective is the value in these units. Without, the unit of a reward is the length of its gradient
    at the first picture, so that all begin with the same pull. This costs one trajectory, and a query and T gradient
    evaluations of each reward that some preference weighs, once for all preferences.

    For one preference, I iterations take ``I T`` predictions, I queries of each reward with weight, and ``(I - 1) T``
    gradient evaluations.

    Args:
        iterations: Number I of pictures, at least 1.
        rate: Learning rate of the optimizer, above 0.
        clip: Largest norm of the gradient of a preference, above 0. A longer one is scaled down to it.
        sphere: Keep the norm of each noise, by a Riemannian step on its sphere: the gradient loses its part along the
            noise, and the result is scaled back. A penalty on norms then has no effect.
        probes: Number q of pictures of disturbed noise that estimate the gradient of a reward without one, in each
            iteration but the last, at least 0. 0 refuses such rewards. The gradient of the pictures themselves is
            computed: this is the hybrid form of DNO. For one preference it costs ``q T`` predictions an iteration, and
            q queries of each such reward.
        disturbance: Standard deviation of the noise that disturbs it, above 0.
        checkpointing: Compute activations again for the gradient and do not keep them. So the memory hardly grows with
            the number of steps. This costs another evaluation for each gradient, which is not counted.

    Raises:
        ValueError: An argument is outside its range, or the scalarisation has no gradient.
    """

    iterations: int = at_least(1, default=50)
    rate: float = 0.01
    clip: float = 1.0
    sphere: bool = False
    probes: int = at_least(0, default=0)
    disturbance: float = 0.01
    checkpointing: bool = field(default=True, metadata={"operational": True})

    needs_gradient: ClassVar[bool] = True
    cost_varies: ClassVar[bool] = False
    every_step: ClassVar[bool]
    """Whether the noise of the steps is optimised too, and not that of the start alone."""
    picks_by_penalty: ClassVar[bool] = False
    """Whether the returned picture is the best one by value minus penalty, and not by value alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rate", "clip", "disturbance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        if self.scalarisation == "ranks":
            raise ValueError(
                f"scalarisation is ranks: {type(self).__name__} needs a value with a gradient, give linear"
            )

    def lacking(self, preferences: Preferences, differentiable: Collection[str]) -> list[str]:
        """See :meth:`Sampler.lacking`; probes take the place of gradients."""
        return [] if self.probes else super().lacking(preferences, differentiable)

    @abc.abstractmethod
    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """Return the optimizer of noises (P, n, C, H, W), which treats each number by itself."""

    @abc.abstractmethod
    def penalty_of(self, unrolled: Unrolled, noises: Tensor) -> Callable[[int], Penalty]:
        """Return the penalties of noise in units of value, by the number of the iteration.

        Args:
            unrolled: Trajectories of the noise.
            noises: Noise (n, C, H, W) that the optimisation begins with.
        """

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, steps = evaluator.problem, evaluator.problem.kernel.steps
        method = type(self).__name__
        unrolled = Unrolled(evaluator, noise, method, self.checkpointing, self.probes, self.disturbance)
        first = noises_of(problem, noise, self.every_step)
        penalty = self.penalty_of(unrolled, first)
        if evaluator.value.units is None:
            unrolled.settle_units(first)
        with problem.graph(method, ()):
            noises = problem.variable(first.expand(len(evaluator), *first.shape))
            optimizer = self.optimizer(noises)
        clean = torch.empty_like(noises[:, 0])
        best = torch.full((len(noises),), -torch.inf, dtype=torch.float32, device=problem.device)
        for iteration in range(self.iterations):
            last, here = iteration + 1 == self.iterations, noises.detach()
            if last:
                found = unrolled.pictures(here, penalty(iteration))
            else:
                found = unrolled.ascents(here, penalty(iteration), iteration)
            values = evaluator.values(found.rewards.unsqueeze(1), found.clean.unsqueeze(1), steps).squeeze(1)
            scores = values - found.penalties if self.picks_by_penalty else values
            better = scores > best
            best, clean[better] = torch.maximum(best, scores), found.clean[better]
            if found.ascent is not None:
                with problem.graph(method, ()):
                    self._step(optimizer, noises, found.ascent)
            measured = {
                "value": values,
                "best": best,
                "mean square of the noise": here.square().flatten(1).mean(1),
            }
            on_step(Moment(iteration + 1, self.iterations, problem.ledger, evaluator.measures(measured)))
        return clean

    def _step(self, optimizer: torch.optim.Optimizer, noises: Tensor, ascent: Tensor) -> None:
        """Change noises (P, n, C, H, W) by one step."""
        here = noises.detach().clone()
        if self.sphere:
            ascent = ascent - (ascent * here).sum((2, 3, 4), True) / here.square().sum((2, 3, 4), True) * here
        length = torch.linalg.vector_norm(ascent.flatten(1), dim=1).view(-1, 1, 1, 1, 1)
        noises.grad = -ascent * (self.clip / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)
        optimizer.step()
        if self.sphere:
            with torch.no_grad():
                noises *= rms(here) / rms(noises)


@dataclass(frozen=True, kw_only=True)
class ReNO(NoiseOptimisation):
    """Reward-based noise optimisation (Eyring et al. 2024, arXiv:2406.04312): the start of a trajectory is optimised.

    It is made for models of one to four steps. With checkpointing it takes any number. Other noise stays as it is. The
    optimizer is gradient descent with Nesterov's momentum. The penalty is minus the log-density of the start's norm.
    Arguments, costs and errors are those of :class:`NoiseOptimisation`.

    Args:
        momentum: Momentum, above 0 and below 1.
        regularisation: Weight of the penalty, at least 0.

    Raises:
        ValueError: The momentum is outside its range.
    """

    eta: float = 0.0
    rate: float = 5.0
    clip: float = 0.1
    momentum: float = 0.9
    regularisation: float = at_least(0, default=0.01)

    every_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}: give a number above 0 and below 1")

    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """See :meth:`NoiseOptimisation.optimizer`."""
        return torch.optim.SGD([noises], lr=self.rate, momentum=self.momentum, nesterov=True)

    def penalty_of(self, unrolled: Unrolled, noises: Tensor) -> Callable[[int], Penalty]:
        """See :meth:`NoiseOptimisation.penalty_of`."""
        return lambda iteration: lambda noises, predicted: self.regularisation * norm_penalty(noises)


@dataclass(frozen=True, kw_only=True)
class DNO(NoiseOptimisation):
    """Direct noise optimisation (Tang et al. 2024, arXiv:2405.18881): the noise of the start and of all steps.

    The optimizer is AdamW. The penalty is minus the logarithm of bounds on the probability of the noise, see
    :func:`~srsoup_lightning.search.noise_likelihood.improbability`. Arguments, costs and errors are those of
    :class:`NoiseOptimisation`.

    Args:
        regularisation: Weight of the penalty, at least 0.
        shuffles: Number of random orders of the numbers whose bounds are averaged, at least 0; the authors take 100.
    """

    regularisation: float = at_least(0, default=1.0)
    shuffles: int = at_least(0, default=10)

    every_step: ClassVar[bool] = True

    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """See :meth:`NoiseOptimisation.optimizer`."""
        return torch.optim.AdamW([noises], lr=self.rate)

    def penalty_of(self, unrolled: Unrolled, noises: Tensor) -> Callable[[int], Penalty]:
        """See :meth:`NoiseOptimisation.penalty_of`."""
        uniform = unrolled.noise.uniform

        def orders(iteration: int, size: int) -> list[Tensor]:
            return [uniform(size, "shuffle", iteration, number).argsort() for number in range(self.shuffles)]

        return lambda iteration: (
            lambda noises, predicted: self.regularisation * improbability(noises, orders(iteration, noises[0].numel()))
        )


@dataclass(frozen=True, kw_only=True)
class MIRA(NoiseOptimisation):
    """MIRA (arXiv:2510.01549): the noise of the start and of all steps, kept near the unsteered picture.

    The penalty is a surrogate for the divergence of the pictures from the unsteered one: the mean, over steps and
    numbers, of the squared difference between the noise that the network predicts along both trajectories. Its formula
    comes from reviews of the paper, whose code is not public. The returned picture is the best one by value minus
    penalty. The optimizer is AdamW, as for :class:`DNO`. The
    unsteered trajectory costs T predictions more, for all preferences together. Arguments, other costs and errors are
    those of :class:`NoiseOptimisation`.

    Args:
        beta: Weight of the penalty, at least 0, in units of value. Give `units`, so that it has a meaning.
    """

    beta: float = at_least(0, default=1.0)

    every_step: ClassVar[bool] = True
    picks_by_penalty: ClassVar[bool] = True

    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """See :meth:`NoiseOptimisation.optimizer`."""
        return torch.optim.AdamW([noises], lr=self.rate)

    def penalty_of(self, unrolled: Unrolled, noises: Tensor) -> Callable[[int], Penalty]:
        """See :meth:`NoiseOptimisation.penalty_of`."""
        _, reference = unrolled.draw(noises.unsqueeze(0))
        return lambda iteration: (
            lambda noises, predicted: self.beta * (predicted - reference).square().flatten(1).mean(1)
        )
