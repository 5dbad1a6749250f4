"""Search gradients, how one trajectory listens to another's candidates, and the shell that noise lives on.

Every trajectory steps to ``x = mean + sigma * u``. Supplier s drew candidates ``mean_s + sigma * z_k`` and knows a
weight for each reward and candidate; trajectory p listens and steps along a combination of the ``z_k``, seen from its
own mean.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Correction = Literal["exact", "raw", "none"]


def search_gradient(weights: Tensor, noise: Tensor) -> Tensor:
    """The sum over candidates of weight times noise: (..., N) and (N, *shape) to (..., *shape).

    ``N * sigma`` times the Monte-Carlo estimate of the gradient of the expected reward with respect to the mean
    (Wierstra et al. 2014, Natural Evolution Strategies, section 2).
    """
    return (weights @ noise.flatten(1)).unflatten(-1, noise.shape[1:])


def project_to_shell(direction: Tensor, fallback: Tensor) -> Tensor:
    """Each direction (P, *shape) at the length sqrt(d) of a typical normal draw; a zero direction becomes `fallback`.

    Args:
        direction: Where to step, of any length, (P, *shape).
        fallback: An honest noise draw to step along where there is no direction, broadcastable to (P, *shape).
    """
    flat = direction.flatten(1)
    length = torch.linalg.vector_norm(flat, dim=1).view(-1, *[1] * (direction.ndim - 1))
    found = length > 0
    unit = direction / torch.where(found, length, torch.ones_like(length))
    return torch.where(found, flat.shape[1] ** 0.5 * unit, fallback.expand_as(direction))


def bhattacharyya(means_a: Tensor, means_b: Tensor, sigma: float) -> Tensor:
    """Overlap per dimension of the denoising Gaussians at every pair of means.

    (A, *shape) and (B, *shape) to (A, B) in (0, 1].

    ``exp(-|a - b|^2 / (8 d sigma^2))``: the Bhattacharyya coefficient of N(a, sigma^2 I) and N(b, sigma^2 I), to the
    power 1/d so that it compares across latent sizes.
    """
    flat_a, flat_b = means_a.flatten(1), means_b.flatten(1)
    distance = torch.cdist(flat_a, flat_b, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-distance.square() / (8 * flat_a.shape[1] * sigma**2))


def require_correction(correction: str) -> None:
    """A correction is one that :func:`mix` knows.

    Raises:
        ValueError: It isn't.
    """
    if correction not in get_args(Correction):
        raise ValueError(f"correction {correction!r} is unknown: choose from {', '.join(get_args(Correction))}")


def mix(
    heard: Tensor,
    shaped: Tensor,
    noise: Tensor,
    means: Tensor,
    supplier_means: Tensor,
    sigma: float,
    correction: Correction,
) -> Tensor:
    """Each trajectory's direction before its projection, (P, *shape).

    ``g_p = sum_j sum_s heard[p, s, j] sum_k shaped[s, j, k] z_k^{s->p}``, where ``z_k^{s->p}`` is the supplier's noise
    seen from the on_step's mean, put back to its own length: ``|z_k| (z_k + shift) / |z_k + shift|``. The paper puts
    it on the mean shell, sqrt(d); the two differ by 1 part in sqrt(2 d), and with its own length a borrowed candidate
    equals an own one where the means agree.

    Args:
        heard: Preference weight times sharing weight, (P, S, M), at least 0.
        shaped: Weight of each candidate for each reward, (S, M, N).
        noise: The candidates' noise, common to all suppliers (N, *shape) or each supplier's own (S, N, *shape).
        means: Where the step_callbacks' transitions are centred, (P, *shape).
        supplier_means: Where the suppliers' transitions are centred, (S, *shape).
        sigma: Standard deviation of the transition, above 0.
        correction: ``shift`` is (mean_s - mean_p) / sigma ("exact": the same point in latent space), mean_s - mean_p
            ("raw": the released two-reward code) or 0 ("none": the released three-reward code).

    Raises:
        ValueError: An unknown correction.
    """
    require_correction(correction)
    wanted = torch.einsum("psj,sjk->psk", heard, shaped)
    suppliers, candidates = shaped.shape[0], shaped.shape[2]
    draws = noise if noise.ndim > means.ndim else noise.unsqueeze(0)  # (S or 1, N, *shape)
    flat = draws.flatten(2)
    if correction == "none":
        return _combine(wanted, flat).unflatten(-1, means.shape[1:])
    scale = 1 / sigma if correction == "exact" else 1.0
    shift = scale * (supplier_means.flatten(1).unsqueeze(0) - means.flatten(1).unsqueeze(1))  # (P, S, d)
    own = flat.square().sum(-1)  # (S or 1, N)
    along = torch.einsum("psd,skd->psk", shift, flat.expand(suppliers, candidates, -1))
    moved = own + 2 * along + shift.square().sum(-1, keepdim=True)
    wanted = wanted * torch.sqrt(own / moved.clamp_min(torch.finfo(moved.dtype).tiny))
    direction = _combine(wanted, flat) + torch.einsum("ps,psd->pd", wanted.sum(-1), shift)
    return direction.unflatten(-1, means.shape[1:])


def _combine(wanted: Tensor, flat: Tensor) -> Tensor:
    """Weights (P, S, N) on noise (S or 1, N, d) to (P, d)."""
    if len(flat) == 1:
        return search_gradient(wanted.sum(1), flat[0])
    return torch.einsum("psk,skd->pd", wanted, flat)
