"""How unlikely noise is under the standard normal distribution, as penalties for noise that is optimised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 4  # numbers of a block whose mean and covariance are tested


def norm_penalty(noise: Tensor) -> Tensor:
    """Return minus the log-density of the norms of noise (B, n, C, H, W), (B,), up to a constant.

    ``|z|^2 / 2 - (d - 1) log |z|``: the norm of d standard normal numbers has a chi distribution, whose density is
    highest at ``sqrt(d - 1)`` (Samuel et al. 2023, arXiv:2306.08687; Eyring et al. 2024, arXiv:2406.04312, equation 6).
    """
    squares = noise.flatten(2).square().sum(2)
    penalty = 0.5 * (squares - (noise[0, 0].numel() - 1) * squares.log())
    return penalty.sum(1)


def improbability(noise: Tensor, orders: Sequence[Tensor]) -> Tensor:
    """Return minus the logarithm of bounds on the probability of noise (B, n, C, H, W), (B,), at least 0.

    The D numbers of a row are cut into blocks of four. For the norm of the blocks' mean and the spectral distance of
    their second moments from the identity, concentration inequalities bound the probability of a value that large
    (Tang et al. 2024, arXiv:2405.18881, section 4). Bounds of 1 or more count as 1, so that ordinary noise has no
    gradient. The bounds of the given order are added to the mean of those of the shuffled orders.

    Args:
        noise: Noise, whose C H W n is at least 4.
        orders: Permutations (D,) of the numbers.
    """
    flat = noise.flatten(1)
    shuffled = [_log_bounds(flat[:, order]) for order in orders]
    total = _log_bounds(flat)
    return -(total + torch.stack(shuffled).mean(0) if shuffled else total)


def _log_bounds(flat: Tensor) -> Tensor:
    """Logarithm of the two bounds of rows (B, D), added, (B,)."""
    blocks = flat[:, : flat.shape[1] // BLOCK * BLOCK].unflatten(1, (-1, BLOCK))
    count = blocks.shape[1]
    mean = blocks.mean(1).square().sum(1)
    identity = torch.eye(BLOCK, dtype=flat.dtype, device=flat.device)
    distance = torch.linalg.matrix_norm(blocks.mT @ blocks / count - identity, ord=2)
    beyond = ((1 + distance).sqrt() - 1 - (BLOCK / count) ** 0.5).clamp_min(0)
    exponents = count * torch.stack([mean / BLOCK, beyond.square()]) / 2
    return (math.log(2) - exponents).clamp_max(0).sum(0)
