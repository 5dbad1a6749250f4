"""Units that make rewards alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

LOW, HIGH = -2.0, 6.0  # the box of hypervolumes, in standard deviations of unsteered samples from their mean


@dataclass(frozen=True)
class Scale:
    """Zero and unit of each reward, both (M,): for instance the mean and standard deviation of unsteered samples.

    Attributes:
        zero: What counts as 0.
        unit: What counts as 1, above 0.
    """

    zero: Tensor
    unit: Tensor

    def standardise(self, rewards: Tensor) -> Tensor:
        """Rewards (P, M) in units from the zero."""
        return (rewards - self.zero) / self.unit
