"""Directions of ascent for several rewards at once, from the gradient of each."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

Conflicts = Literal["ignore", "mgda", "pcgrad"]
ITERATIONS = 100  # of Frank and Wolfe's method, which is exact after one for two gradients
TINY = 1e-12


def unit_rms(gradients: Tensor) -> Tensor:
    """Scale each gradient (..., C, H, W) to a root mean square of 1. A gradient of zeros stays as it is."""
    return gradients / rms(gradients).clamp_min(TINY)


def rms(x: Tensor) -> Tensor:
    """Return the root mean square of each latent of x (..., C, H, W), (..., 1, 1, 1)."""
    return x.square().mean((-3, -2, -1), keepdim=True).sqrt()


def combine(gradients: Tensor, weights: Tensor, conflicts: Conflicts = "ignore") -> Tensor:
    """Combine the gradients of M rewards to one direction for each of P preferences, (P, C, H, W).

    "ignore" is the weighted sum. "pcgrad" (Yu et al. 2020, arXiv:2001.06782) first removes from each gradient its
    components against others, one after the other in the order of the rewards, where the paper draws the order.
    "mgda" (Désidéri 2012; Sener & Koltun 2018, arXiv:1810.04650) takes the shortest convex combination of the gradients
    ``g_m / w_m``. No reward falls along it, and reward m rises at least in proportion to ``w_m``. It is scaled to equal
    the weighted sum where the gradients are orthogonal and of one length.

    Args:
        gradients: Gradient of each reward, (P, M, C, H, W).
        weights: Weights (P, M), at least 0. Rewards without weight do not count.
        conflicts: "ignore", "mgda" or "pcgrad".

    Raises:
        ValueError: `conflicts` is unknown.
    """
    require_choice("conflicts", conflicts, Conflicts)
    if conflicts == "ignore":
        return torch.einsum("pm,pm...->p...", weights, gradients)
    combined = _without_conflicts if conflicts == "pcgrad" else _least_norm
    return torch.stack([combined(own[w > 0], w[w > 0]) for own, w in zip(gradients, weights, strict=True)])


def _without_conflicts(gradients: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum (C, H, W) of gradients (M, C, H, W), each projected onto the normal planes of those against it."""
    total = torch.zeros_like(gradients[0])
    for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        for other in [*gradients[:index], *gradients[index + 1 :]]:
            along = (gradient * other).sum()
            if along < 0:
                gradient = gradient - along / other.square().sum() * other
        total = total + weight * gradient
    return total


def _least_norm(gradients: Tensor, weights: Tensor) -> Tensor:
    """Shortest convex combination (C, H, W) of ``g_m / w_m``, times the sum of the squared weights."""
    flat = (gradients.flatten(1).T / weights).T
    shares = shortest(flat.double() @ flat.double().T).to(flat)
    return (weights.square().sum() * (shares @ flat)).view_as(gradients[0])


def shortest(gram: Tensor) -> Tensor:
    """Return the shares (M,), at least 0 and of sum 1, of the shortest convex combination of M vectors.

    Frank and Wolfe's method with exact line search (Sener & Koltun 2018, algorithm 2).

    Args:
        gram: Inner products of the vectors, (M, M).
    """
    shares = torch.full_like(gram[0], 1 / len(gram))
    for _ in range(ITERATIONS):
        slopes = gram @ shares
        vertex = torch.zeros_like(shares)
        vertex[slopes.argmin()] = 1.0
        change = vertex - shares
        curvature = change @ gram @ change
        if curvature <= 0 or change @ slopes >= 0:
            break
        shares = shares + (-(change @ slopes) / curvature).clamp(0, 1) * change
    return shares
