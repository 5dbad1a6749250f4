"""Perturbation of the noise of a step, for local search."""

from __future__ import annotations

import torch
from torch import Tensor


def perturb(pivot: Tensor, noise: Tensor, radius: Tensor) -> Tensor:
    """Move each pivot in the directions of noise, and scale the results back to the pivot's length.

    Args:
        pivot: Noise of each preference, (P, *shape).
        noise: Normal noise (N, *shape), of which the directions count.
        radius: Length of each move, (N,), at least 0.

    Returns:
        (P, N, *shape).
    """
    flat, around = noise.flatten(1), pivot.flatten(1).unsqueeze(1)
    moved = around + radius.unsqueeze(1) * torch.nn.functional.normalize(flat, dim=1)
    moved = around.norm(dim=2, keepdim=True) * torch.nn.functional.normalize(moved, dim=2)
    return moved.unflatten(2, noise.shape[1:])
