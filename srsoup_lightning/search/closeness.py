"""Closeness of trajectories: it says when a borrowed search gradient is as good as an own one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Measure = Literal["previews", "means"]


def preview_closeness(previews: Tensor) -> Tensor:
    """Return ``exp(-|a - b|^2 / d)`` for every pair of clean latents (P, *shape).

    Latents have about unit variance, so unrelated pictures have at most about ``exp(-2)``.

    Returns:
        Symmetric (P, P) in [0, 1], 1 where two latents agree.
    """
    flat = previews.flatten(1)
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-distance.square() / flat.shape[1])


def bhattacharyya(means_a: Tensor, means_b: Tensor, sigma: float) -> Tensor:
    """Return the overlap per dimension of the denoising Gaussians at every pair of means.

    ``exp(-|a - b|^2 / (8 d sigma^2))``: the Bhattacharyya coefficient of N(a, sigma^2 I) and N(b, sigma^2 I), to the
    power 1/d so that it compares across latent sizes.

    Args:
        means_a: (A, *shape).
        means_b: (B, *shape).
        sigma: Standard deviation of both, above 0.

    Returns:
        (A, B) in (0, 1].
    """
    flat_a, flat_b = means_a.flatten(1), means_b.flatten(1)
    distance = torch.cdist(flat_a, flat_b, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-distance.square() / (8 * flat_a.shape[1] * sigma**2))
