"""Noise optimisation that stays near the unsteered picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_optimisation import RewardAscent
from srsoup_lightning.samplers.unrolled import Penalty, Unrolled


@dataclass(frozen=True, kw_only=True)
class MIRA(RewardAscent):
    """MIRA (arXiv:2510.01549): the noise of the start and of all steps, kept near the unsteered picture.

    The penalty is a surrogate for the divergence of the pictures from the unsteered one: the mean, over steps and
    numbers, of the squared difference between the noise that the network predicts along both trajectories. Its formula
    comes from reviews of the paper, whose code is not public. The returned picture is the best one by value minus
    penalty. The optimizer is AdamW, as for :class:`~srsoup_lightning.samplers.dno.DNO`. The unsteered trajectory costs
    T predictions more, for all preferences together. Arguments, other costs and errors are those of
    :class:`RewardAscent`.

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
        """See :meth:`RewardAscent.penalty_of`."""
        _, reference = unrolled.draw(noises.unsqueeze(0))
        return lambda iteration: (
            lambda noises, predicted: self.beta * (predicted - reference).square().flatten(1).mean(1)
        )
