"""The toy model's closed form against integrals, and the data it denoises to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import Prediction
from tests.mixture import GaussianMixture

CENTRES = torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64).view(2, 2, 1, 1)
SHARES, SPREAD = torch.tensor([0.3, 0.7], dtype=torch.float64), 0.4


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.9])
def test_posterior_mean_is_the_integral_of_its_definition(alpha: float) -> None:
    grid = torch.linspace(-6, 6, 601, dtype=torch.float64)
    x0 = torch.cartesian_prod(grid, grid)  # (points, 2)
    prior = torch.zeros(len(x0), dtype=torch.float64)
    for share, centre in zip(SHARES, CENTRES.flatten(1), strict=True):
        prior += share * torch.exp(-(x0 - centre).square().sum(1) / (2 * SPREAD**2))
    x = torch.tensor([[0.3, -0.2], [-1.5, 1.0], [2.5, 0.0]], dtype=torch.float64)
    expected = []
    for each in x:
        posterior = prior * torch.exp(-(each - alpha**0.5 * x0).square().sum(1) / (2 * (1 - alpha)))
        expected.append(posterior @ x0 / posterior.sum())
    found = GaussianMixture(CENTRES, SPREAD, SHARES).posterior_mean(x.view(3, 2, 1, 1), alpha)
    torch.testing.assert_close(found.flatten(1), torch.stack(expected), rtol=1e-6, atol=1e-6)


def moments(denoiser: Denoiser, mean: float, variance: float) -> Iterator[tuple[float, float]]:
    """Moments after each step from those of the first level, where the transition's mean is affine: of one centre."""
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    for step in range(denoiser.kernel.steps):
        offset, at_one = denoiser.kernel.mean(step, x, denoiser.denoise(x, step)).flatten().tolist()
        slope = at_one - offset
        mean, variance = slope * mean + offset, slope**2 * variance + denoiser.kernel.sigma(step) ** 2
        yield mean, variance


CENTRE = torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_point_keeps_its_exact_marginals_at_every_level(eta: float) -> None:
    """DDIM's defining property (Song et al. 2021, lemma 1): for known x0, x has N(sqrt(a) x0, 1 - a) at every level."""
    denoiser = GaussianMixture(CENTRE, 0.0).bind(9, eta)
    first, *alphas = denoiser.kernel.alphas
    for alpha, (mean, variance) in zip(alphas, moments(denoiser, first**0.5 * 1.5, 1 - first), strict=True):
        assert mean == pytest.approx(alpha**0.5 * 1.5, abs=1e-9)
        assert variance == pytest.approx(1 - alpha, abs=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_gaussian_keeps_its_mean_and_spread(eta: float) -> None:
    *_, (mean, variance) = moments(GaussianMixture(CENTRE, 0.5).bind(1000, eta), 0.0, 1.0)
    assert (mean, variance**0.5) == pytest.approx((1.5, 0.5), rel=0.02)


def test_unsteered_samples_have_the_moments_and_shares_of_the_data() -> None:
    denoiser = GaussianMixture(CENTRES.float(), SPREAD, SHARES.float()).bind(400, 1.0)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(10_000, 2, 1, 1, generator=rng)
    for step in range(400):
        mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
        x = mean + sigma * torch.randn(x.shape, generator=rng)
    samples = x.flatten(1).double()
    mean = SHARES @ CENTRES.flatten(1)
    variance = SHARES @ (CENTRES.flatten(1) - mean).square() + SPREAD**2
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(samples.std(0), variance.sqrt(), rtol=0.03, atol=0)
    assert (samples[:, 0] < 0.5).double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_a_bound_mixture_runs_from_noise_to_clean_images() -> None:
    def bound(**options: float) -> Denoiser:
        return GaussianMixture(torch.zeros(2, 3, 4, 4), SPREAD).bind(6, 1.0, **options)

    assert bound().kernel.steps == 6
    assert bound().kernel.sigma(5) == 0
    assert bound(final_alpha=0.9).kernel.sigma(5) > 0.1
    assert (bound().shape, bound().evaluations) == ((3, 4, 4), 1)
    latents = 10 * torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = bound().decode(latents)
    assert images.aminmax() == (0, 1)
    shallow = latents.abs() < 4
    torch.testing.assert_close((images * 8 - 4)[shallow], latents[shallow], rtol=1e-4, atol=1e-4)


def test_components_of_the_prediction_make_up_the_latent() -> None:
    denoiser = GaussianMixture(CENTRES, SPREAD).bind(4, 1.0)
    x = torch.randn(3, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for level in range(4):
        alpha = denoiser.kernel.alphas[level]
        x0, noise = denoiser.denoise(x, level)
        assert isinstance(denoiser.denoise(x, level), Prediction)
        torch.testing.assert_close(math.sqrt(alpha) * x0 + math.sqrt(1 - alpha) * noise, x)


def test_equal_shares_are_the_default() -> None:
    def at(shares: Tensor | None) -> Tensor:
        return GaussianMixture(CENTRES.float(), SPREAD, shares).posterior_mean(torch.zeros(1, 2, 1, 1), 0.3)

    torch.testing.assert_close(at(None), at(torch.tensor([0.5, 0.5])))
    assert (at(None) - at(torch.tensor([0.9, 0.1]))).abs().max() > 0.1
