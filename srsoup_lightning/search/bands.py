"""Frequency bands of latents: the orthonormal Haar transform.

Haar 1910; Mallat 1989, A theory for multiresolution signal decomposition. Standard normal latents have standard normal
bands, because the transform is orthonormal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def haar(x: Tensor, level: int) -> tuple[Tensor, list[Tensor]]:
    """Split latents into a low band and the high bands of each halving.

    Args:
        x: Latents (..., C, H, W).
        level: Number of times that height and width are halved, at least 0.

    Returns:
        The low band (..., C, H / 2^level, W / 2^level), and for each halving, the first one first, its high bands
        (..., C, 3, h, w) of half the size: the differences along the width, along the height, and along both.

    Raises:
        ValueError: Height or width can't be halved that often.
    """
    height, width = x.shape[-2:]
    most = 0
    while height % 2 ** (most + 1) == 0 and width % 2 ** (most + 1) == 0:
        most += 1
    if level > most:
        raise ValueError(f"level is {level}: latents of {height} x {width} can be halved {most} times at most")
    high = []
    for _ in range(level):
        x, *differences = _butterfly(x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2])
        high.append(torch.stack(differences, dim=-3))
    return x, high


def inverse_haar(low: Tensor, high: Sequence[Tensor]) -> Tensor:
    """Return the latents (..., C, H, W) of a low band and the high bands from :func:`haar`, which are broadcast."""
    for differences in reversed(high):
        a, b, c, d = _butterfly(low, *differences.unbind(-3))
        upper, lower = (torch.stack(pair, dim=-1).flatten(-2) for pair in ((a, b), (c, d)))
        low = torch.stack([upper, lower], dim=-2).flatten(-3, -2)
    return low


def _butterfly(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Apply the orthonormal Hadamard matrix of order 4, which is its own inverse."""
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
