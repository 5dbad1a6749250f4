"""Units that make rewards alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

LOW, HIGH = -2.0, 6.0  # the box of hypervolumes, in standard deviations of unsteered samples from their mean


@dataclass(frozen=True)
class Scale:
    """Zero and unit of M rewards, such as the mean and standard deviation of unsteered samples.

    Attributes:
        zero: (M,), the scores that count as 0.
        unit: (M,), the differences of scores that count as 1, above 0.
    """

    zero: Tensor
    unit: Tensor

    def standardise(self, rewards: Tensor) -> Tensor:
        """Convert rewards (P, M) to units from the zero, (P, M)."""
        return (rewards - self.zero) / self.unit
