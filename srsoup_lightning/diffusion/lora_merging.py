"""Weighted means of LoRAs as one LoRA. Pure functions of their matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Average = Literal["products", "factors"]


class Factors(NamedTuple):
    """Update of a weight by a LoRA: ``up @ down``, with the scale alpha / rank in `up`.

    Attributes:
        down: Matrix A, (rank, ...).
        up: Matrix B, (outputs, rank, ...).
    """

    down: Tensor
    up: Tensor

    @property
    def product(self) -> Tensor:
        """The update, (outputs, inputs)."""
        return self.up.flatten(1) @ self.down.flatten(1)


def mean_of_products(parts: Sequence[Factors], weights: Sequence[float], rank: int | None = None) -> Factors:
    """Return the factors of ``sum_i w_i B_i A_i``, which is exact in the sum of the ranks.

    Args:
        parts: Factors of the same weight.
        weights: Their weights.
        rank: Largest rank of the result. None is the sum of the ranks. With less, it is the nearest update of that
            rank, by singular values (Eckart & Young 1936).
    """
    down = torch.cat([part.down for part in parts])
    up = torch.cat([weight * part.up for weight, part in zip(weights, parts, strict=True)], 1)
    if rank is None or rank >= len(down):
        return Factors(down, up)
    # Of a product of thin matrices, the singular values are those of the product of their triangular factors.
    left, upper = torch.linalg.qr(up.flatten(1).double())
    right, lower = torch.linalg.qr(down.flatten(1).double().T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    root = values[:rank].sqrt()
    nearest = (right @ (v[:rank].T * root)).T, left @ (u[:, :rank] * root)
    shapes = (rank, *down.shape[1:]), (up.shape[0], rank, *up.shape[2:])
    return Factors(*(each.to(down.dtype).reshape(shape) for each, shape in zip(nearest, shapes, strict=True)))


def mean_of_factors(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return ``(sum_i w_i A_i, sum_i w_i B_i)``, as many tools average LoRAs key by key.

    It is near the mean of products where all LoRAs began at one matrix A and have not moved far from it. For LoRAs of
    different beginnings, half of the update is lost.

    Args:
        parts: Factors of the same weight, of one rank.
        weights: Their weights.

    Raises:
        ValueError: The ranks differ.
    """
    ranks = sorted({len(part.down) for part in parts})
    if len(ranks) > 1:
        raise ValueError(f"the LoRAs have ranks {ranks}, and factors of one rank alone have a mean: average products")
    pairs = list(zip(weights, parts, strict=True))
    return Factors(
        torch.stack([weight * part.down for weight, part in pairs]).sum(0),
        torch.stack([weight * part.up for weight, part in pairs]).sum(0),
    )
