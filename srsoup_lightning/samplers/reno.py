"""Reward-based noise optimisation: the start of a trajectory follows the gradient of the rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_optimisation import RewardAscent
from srsoup_lightning.samplers.unrolled import Penalty, Unrolled
from srsoup_lightning.search.noise_likelihood import norm_penalty


@dataclass(frozen=True, kw_only=True)
class ReNO(RewardAscent):
    """Reward-based noise optimisation (Eyring et al. 2024, arXiv:2406.04312): the start of a trajectory is optimised.

    It is made for models of one to four steps. With checkpointing it takes any number. Other noise stays as it is. The
    optimizer is gradient descent with Nesterov's momentum. The penalty is minus the log-density of the start's norm.
    Arguments, costs and errors are those of :class:`RewardAscent`.

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
        """See :meth:`RewardAscent.penalty_of`."""
        return lambda iteration: lambda noises, predicted: self.regularisation * norm_penalty(noises)
