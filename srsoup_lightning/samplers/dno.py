"""Direct noise optimisation: the noise of all steps follows the gradient of the rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_optimisation import RewardAscent
from srsoup_lightning.samplers.unrolled import Penalty, Unrolled
from srsoup_lightning.search.noise_likelihood import improbability


@dataclass(frozen=True, kw_only=True)
class DNO(RewardAscent):
    """Direct noise optimisation (Tang et al. 2024, arXiv:2405.18881): the noise of the start and of all steps.

    The optimizer is AdamW. The penalty is minus the logarithm of bounds on the probability of the noise, see
    :func:`~srsoup_lightning.search.noise_likelihood.improbability`. Arguments, costs and errors are those of
    :class:`RewardAscent`.

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
        """See :meth:`RewardAscent.penalty_of`."""
        uniform = unrolled.noise.uniform

        def orders(iteration: int, size: int) -> list[Tensor]:
            return [uniform(size, "shuffle", iteration, number).argsort() for number in range(self.shuffles)]

        return lambda iteration: (
            lambda noises, predicted: self.regularisation * improbability(noises, orders(iteration, noises[0].numel()))
        )
