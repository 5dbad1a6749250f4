"""Search gradients, their exchange between trajectories, and the shell that noise lies on.

Every trajectory steps to ``x = mean + sigma * u``. Source s drew candidates ``mean_s + sigma * z_k`` and knows a weight
for each reward and candidate. Trajectory p steps along a combination of the ``z_k``, seen from its own mean.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rewards.checks import require_choice

Correction = Literal["exact", "raw", "none"]


def search_gradient(weights: Tensor, noise: Tensor) -> Tensor:
    """Sum the noise of candidates by their weights: (..., N) and (N, *shape) to (..., *shape).

    This is ``N * sigma`` times the Monte-Carlo estimate of the gradient of the expected reward with respect to the mean
    (Wierstra et al. 2014, Natural Evolution Strategies, section 2).
    """
    return (weights @ noise.flatten(1)).unflatten(-1, noise.shape[1:])


def project_to_shell(direction: Tensor, fallback: Tensor) -> Tensor:
    """Scale each direction to the length sqrt(d) of a typical normal draw.

    Args:
        direction: Directions of any length, (P, *shape).
        fallback: Normal noise that replaces a zero direction, broadcastable to (P, *shape).

    Returns:
        (P, *shape).
    """
    flat = direction.flatten(1)
    length = torch.linalg.vector_norm(flat, dim=1).view(-1, *[1] * (direction.ndim - 1))
    found = length > 0
    unit = direction / torch.where(found, length, torch.ones_like(length))
    return torch.where(found, flat.shape[1] ** 0.5 * unit, fallback.expand_as(direction))


def mix(
    coefficients: Tensor,
    shaped: Tensor,
    noise: Tensor,
    means: Tensor,
    source_means: Tensor,
    sigma: float,
    correction: Correction,
) -> Tensor:
    """Combine the search gradients of the sources to each trajectory's direction, before its projection.

    ``g_p = sum_j sum_s coefficients[p, s, j] sum_k shaped[s, j, k] z_k^{s->p}``. Here ``z_k^{s->p}`` is the source's
    noise seen from the trajectory's mean, scaled to its own length: ``|z_k| (z_k + shift) / |z_k + shift|``. The paper
    scales it to sqrt(d). Both differ by 1 part in sqrt(2 d). With its own length, a borrowed candidate equals an own
    one where the means agree.

    Args:
        coefficients: Preference weight times sharing weight, (P, S, M), at least 0.
        shaped: Weight of each candidate for each reward, (S, M, N).
        noise: Noise of the candidates, common to all sources (N, *shape) or own to each source (S, N, *shape).
        means: Means of the trajectories' transitions, (P, *shape).
        source_means: Means of the sources' transitions, (S, *shape).
        sigma: Standard deviation of the transition, above 0.
        correction: ``shift`` is (mean_s - mean_p) / sigma ("exact": the same point in latent space), mean_s - mean_p
            ("raw": the released two-reward code) or 0 ("none": the released three-reward code).

    Returns:
        (P, *shape).

    Raises:
        ValueError: The correction is unknown.
    """
    require_choice("correction", correction, Correction)
    weights = torch.einsum("psj,sjk->psk", coefficients, shaped)
    sources, candidates = shaped.shape[0], shaped.shape[2]
    draws = noise if noise.ndim > means.ndim else noise.unsqueeze(0)  # (S or 1, N, *shape)
    flat = draws.flatten(2)
    if correction == "none":
        return _combine(weights, flat).unflatten(-1, means.shape[1:])
    scale = 1 / sigma if correction == "exact" else 1.0
    shift = scale * (source_means.flatten(1).unsqueeze(0) - means.flatten(1).unsqueeze(1))  # (P, S, d)
    own = flat.square().sum(-1)  # (S or 1, N)
    along = torch.einsum("psd,skd->psk", shift, flat.expand(sources, candidates, -1))
    moved = own + 2 * along + shift.square().sum(-1, keepdim=True)
    weights = weights * torch.sqrt(own / moved.clamp_min(torch.finfo(moved.dtype).tiny))
    direction = _combine(weights, flat) + torch.einsum("ps,psd->pd", weights.sum(-1), shift)
    return direction.unflatten(-1, means.shape[1:])


def _combine(weights: Tensor, flat: Tensor) -> Tensor:
    """Weights (P, S, N) on noise (S or 1, N, d) to (P, d)."""
    if len(flat) == 1:
        return search_gradient(weights.sum(1), flat[0])
    return torch.einsum("psk,skd->pd", weights, flat)
