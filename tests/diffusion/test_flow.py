"""Flow transitions against the published formulas, diffusers' Euler step and the marginals that they must keep."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sin, sqrt

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srsoup_lightning.diffusion.flow import (
    Flow,
    FlowAncestral,
    FlowCPS,
    FlowSDE,
    FlowTransition,
    flow_kernel,
    flow_prediction,
)
from srsoup_lightning.diffusion.transition import DDIM, Prediction
from tests.diffusion.conftest import doubles
from tests.mixture import GaussianMixture

KINDS: list[FlowTransition] = ["ancestral", "cps", "sde"]
EVEN = tuple(torch.linspace(1, 0, 101).tolist())
CENTRES, SHARES = torch.tensor([-1.0, 2.0]), torch.tensor([0.3, 0.7])
MIXTURE = GaussianMixture(CENTRES.view(2, 1, 1, 1), 0.3, SHARES)
TIMES = st.sets(st.integers(10, 1_000), min_size=2, max_size=6).map(
    lambda levels: (*(level / 1_000 for level in sorted(levels, reverse=True)), 0.0)
)


def exact(mixture: GaussianMixture, x: Tensor, s: float) -> Prediction:
    """The mixture's own prediction at flow time s: scaled to unit length, the flow is a diffusion."""
    length = sqrt((1 - s) ** 2 + s**2)
    x0 = mixture.posterior_mean(x / length, (1 - s) ** 2 / length**2)
    return Prediction(x0, (x - (1 - s) * x0) / s)


@pytest.mark.parametrize("kind", KINDS)
def test_without_fresh_noise_a_step_is_diffusers_euler_step(kind: FlowTransition) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(5)
    times = tuple(scheduler.sigmas.tolist())
    kernel = flow_kernel(kind, times, 0.0)
    for step, timestep in enumerate(scheduler.timesteps):
        x, velocity = doubles(2, 4, 3, 3, seed=step).float(), doubles(2, 4, 3, 3, seed=step + 9).float()
        mean, sigma = kernel.transition(step, x, flow_prediction(velocity, x, times[step]))
        torch.testing.assert_close(mean, scheduler.step(velocity, timestep, x).prev_sample, rtol=0, atol=1e-5)
        assert sigma == 0


@given(TIMES, st.floats(0.0, 1.0))
def test_sde_is_flow_grpo_s_equation_9(times: tuple[float, ...], eta: float) -> None:
    """x + (v + b^2 / 2t (x + (1 - t) v)) dt + b sqrt(-dt) z with b = a sqrt(t / (1 - t)), time running down."""
    kernel = FlowSDE(times, eta)
    x, velocity = doubles(1, 3, 2, 2), doubles(1, 3, 2, 2, seed=1)
    for step in range(kernel.steps):
        t, dt = times[step], times[step + 1] - times[step]
        b = eta * sqrt(t / (1 - (t if t < 1 else times[step + 1])))
        mean, sigma = kernel.transition(step, x, flow_prediction(velocity, x, t))
        expected = x + (velocity + b**2 / (2 * t) * (x + (1 - t) * velocity)) * dt
        torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)
        assert sigma == pytest.approx(b * sqrt(-dt))


@given(TIMES, st.floats(0.0, 1.0))
def test_cps_keeps_the_coefficients_of_picture_and_noise(times: tuple[float, ...], eta: float) -> None:
    """From (1 - s) x0 + s noise to (1 - s') x0 plus independent noises whose squared shares sum to s'^2."""
    kernel = FlowCPS(times, eta)
    x0, noise, nothing = doubles(1, 3, 2, 2), doubles(1, 3, 2, 2, seed=1), torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    for step, there in enumerate(times[1:]):
        sigma = kernel.sigma(step)
        assert sigma == pytest.approx(there * sin(eta * pi / 2))
        kept = kernel.mean(step, nothing, Prediction(nothing, noise)) / noise
        torch.testing.assert_close(kept.square() + sigma**2, torch.full_like(kept, there**2), rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(kernel.mean(step, nothing, Prediction(x0, nothing)), (1 - there) * x0)


def test_cps_at_full_eta_draws_all_noise_anew() -> None:
    kernel = FlowCPS((1.0, 0.6, 0.0), 1.0)
    x0, noise = doubles(1, 3, 2, 2), doubles(1, 3, 2, 2, seed=1)
    torch.testing.assert_close(kernel.mean(0, noise, Prediction(x0, noise)), 0.4 * x0, rtol=1e-6, atol=1e-7)
    assert [kernel.sigma(step) for step in range(2)] == pytest.approx([0.6, 0.0])


@given(TIMES)
def test_ancestral_at_full_eta_is_the_posterior_of_the_flow(times: tuple[float, ...]) -> None:
    """Bayes: the prior of x' around (1 - s') x0, and the likelihood of x = (1 - s) / (1 - s') x' + noise."""
    kernel = FlowAncestral(times, 1.0)
    x0, x = doubles(1, 3, 2, 2), doubles(1, 3, 2, 2, seed=1)
    for step, there in enumerate(times[1:-1]):
        s = times[step]
        slope = (1 - s) / (1 - there)
        spread = s**2 - (slope * there) ** 2
        precision = 1 / there**2 + slope**2 / spread
        expected = ((1 - there) * x0 / there**2 + slope * x / spread) / precision
        mean, sigma = kernel.transition(step, x, Prediction(x0, (x - (1 - s) * x0) / s))
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-5)
        assert sigma == pytest.approx(precision**-0.5, rel=1e-5)
    assert kernel.sigma(kernel.steps - 1) == 0


@given(TIMES)
def test_ancestral_at_full_eta_is_the_variance_preserving_process_at_equal_signal_to_noise(times) -> None:
    """Scaled to unit length, its steps are those of DDIM at eta 1. RBF's "VP conversion" is this transition."""
    lengths = [sqrt((1 - s) ** 2 + s**2) for s in times]
    alphas = [((1 - s) / length) ** 2 for s, length in zip(times, lengths, strict=True)]
    flow, diffusion = FlowAncestral(times, 1.0), DDIM(tuple(alphas), 1.0)
    x, prediction = doubles(2, 4, 3, 3), Prediction(doubles(2, 4, 3, 3, seed=1), doubles(2, 4, 3, 3, seed=2))
    for step in range(flow.steps):
        mean, sigma = diffusion.transition(step, x / lengths[step], prediction)
        found = flow.transition(step, x, prediction)
        torch.testing.assert_close(found.mean, lengths[step + 1] * mean)
        assert found.sigma == pytest.approx(lengths[step + 1] * sigma, abs=1e-7)


def marginals(kernel: Flow, mixture: GaussianMixture) -> Iterator[tuple[float, Tensor]]:
    """The level's flow time and 10,000 latents there, under the exact velocity."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(10_000, 1, 1, 1, generator=rng)
    for step in range(kernel.steps):
        mean, sigma = kernel.transition(step, x, exact(mixture, x, kernel.times[step]))
        x = mean + sigma * torch.randn(x.shape, generator=rng)
        yield kernel.times[step + 1], x


@pytest.mark.parametrize("eta", [0.0, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("kind", ["ancestral", "sde"])
def test_latents_of_the_mixture_keep_the_flow_s_marginals(kind: FlowTransition, eta: float) -> None:
    kernel = flow_kernel(kind, EVEN, eta)
    mean = float(SHARES @ CENTRES)
    variance = float(SHARES @ (CENTRES - mean).square()) + MIXTURE.spread**2
    for s, x in marginals(kernel, MIXTURE):
        if kind == "sde" and s > 0.5:  # its first step from pure noise adds too much, whatever the number of steps
            continue
        assert float(x.mean()) == pytest.approx((1 - s) * mean, abs=0.05)
        assert float(x.std()) == pytest.approx(sqrt((1 - s) ** 2 * variance + s**2), rel=0.03)
    assert float((x > 0.5).float().mean()) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("steps", [5, 100])
def test_cps_keeps_the_marginals_of_data_that_velocities_know(steps: int) -> None:
    """A single picture: here the coefficients are all that there is to keep."""
    picture = GaussianMixture(torch.full((1, 1, 1, 1), 2.0), 0.0)
    for s, x in marginals(FlowCPS(tuple(torch.linspace(1, 0, steps + 1).tolist()), 0.8), picture):
        assert float(x.mean()) == pytest.approx(2 * (1 - s), abs=0.03)
        assert float(x.std()) == pytest.approx(s, rel=0.03, abs=1e-5)


def test_cps_draws_pictures_that_vary_less_than_the_data() -> None:
    """Which is why it is not the default."""
    *_, (_, x) = marginals(FlowCPS(EVEN, 0.8), MIXTURE)
    *_, (_, true) = marginals(FlowAncestral(EVEN, 0.8), MIXTURE)
    assert float(x.std()) < 0.95 * float(true.std())


@given(st.floats(0.0, 1.0))
def test_a_velocity_says_what_a_latent_is_made_of(s: float) -> None:
    x0, noise = doubles(2, 3, 4, 4), doubles(2, 3, 4, 4, seed=1)
    x = (1 - s) * x0 + s * noise
    torch.testing.assert_close(tuple(flow_prediction(noise - x0, x, s)), (x0, noise))
    if s < 1:
        kernel = FlowCPS((1.0, s), 0.5) if s > 0 else FlowCPS((1.0, 0.0), 0.5)
        torch.testing.assert_close(kernel.clean(1, x, noise), x0, rtol=1e-5, atol=1e-5 / (1 - s))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="transition is 'ode': choose one of ancestral, cps, sde"):
        flow_kernel("ode", (1.0, 0.0), 0.0)
    with pytest.raises(ValueError, match="level 0 has no signal"):
        FlowCPS((1.0, 0.0), 0.0).clean(0, doubles(1, 3, 2, 2), doubles(1, 3, 2, 2))
