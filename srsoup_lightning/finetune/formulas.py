"""Distances of predictions and losses of advantages, which several objectives share. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_loss(advantage: Tensor, ratio: Tensor, clip: float) -> Tensor:
    """Return ``max(-A r, -A clip(r, 1 - c, 1 + c))``, (B,), of advantages (B,) and likelihood ratios (B,).

    Schulman et al. 2017 (PPO), arXiv:1707.06347, equation 7, for a step of denoising as in Black et al. 2023 (DDPO),
    arXiv:2305.13301.
    """
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


def mean_deviation(mean: Tensor, other: Tensor, scale: float) -> Tensor:
    """Return ``|mean - other|^2 / (2 d scale^2)``, (B,), of means (B, C, H, W) with d numbers each.

    With sigma as the scale, this is the Kullback-Leibler divergence of two Gaussians, as the mean over d.
    """
    return (mean - other).square().flatten(1).mean(1) / (2 * scale**2)


def guarded_ratio(log_ratio: Tensor, deviation: Tensor, sigma: float) -> Tensor:
    """Return ``exp(sigma log r + sigma D)``, (B,), where D is :func:`mean_deviation` of the new mean and the old one.

    The exponent is ``mean_d(z (mu - mu_old))``, where z is the noise of the sample. It has one scale at all steps, and
    its mean under the old policy is 0 (GRPO-Guard, arXiv:2510.22319).

    Args:
        log_ratio: Log-likelihood ratios (B,), as the mean over d.
        deviation: Deviations (B,) with the scale sigma.
        sigma: Standard deviation of the step.
    """
    return ((log_ratio + deviation) * sigma).exp()


def divergence_masked_loss(advantage: Tensor, ratio: Tensor, deviation: Tensor, limit: float) -> Tensor:
    """Return ``-A r``, (B,), without a gradient where the step is beyond the limit and would go further away.

    Flow-DPPO, arXiv:2606.11025. Steps that lead back to the old policy stay.

    Args:
        advantage: Advantages (B,).
        ratio: Likelihood ratios (B,).
        deviation: Deviations (B,) of the new mean from the old one.
        limit: Deviation from which on steps away are dropped.
    """
    away = ((advantage > 0) & (ratio > 1)) | ((advantage < 0) & (ratio < 1))
    dropped = (deviation > limit) & away
    return torch.where(dropped, (-advantage * ratio).detach(), -advantage * ratio)


def velocity_distance(x0: Tensor, other: Tensor, share: float) -> Tensor:
    """Return the mean squared difference of two velocities at a noisy latent, (B,): ``mean_d(x0 - x0')^2 / share^2``.

    This holds for the velocity ``noise - x0`` of a flow, and for ``signal * noise - share * x0`` of a diffusion, whose
    squared shares sum to 1 (Salimans & Ho 2022, arXiv:2202.00512).

    Args:
        x0: Clean latents (B, C, H, W) of one velocity.
        other: Clean latents (B, C, H, W) of the other one.
        share: Share of the noise in the noisy latent, in (0, 1].
    """
    return (x0.double() - other.double()).square().flatten(1).mean(1) / share**2
