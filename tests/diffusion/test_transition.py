"""Steps of DDIM and of consistency models against diffusers' own scheduler and against Gaussian algebra."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from torch.distributions import Normal

from srsoup_lightning.diffusion.flow import FlowAncestral, FlowCPS, FlowSDE
from srsoup_lightning.diffusion.schedule import diffusion_schedule
from srsoup_lightning.diffusion.transition import (
    DDIM,
    Kernel,
    Prediction,
    PredictionType,
    Renoising,
    dynamic_threshold,
    prediction_of,
)
from tests.diffusion.conftest import CLASSIC, SCHEDULE, doubles

TYPES = ["epsilon", "sample", "v_prediction"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
def test_every_step_is_diffusers_step(
    prediction_type: PredictionType, eta: float, set_alpha_to_one: bool, dtype: torch.dtype
) -> None:
    config = {"prediction_type": prediction_type, "set_alpha_to_one": set_alpha_to_one}
    scheduler = DDIMScheduler(**CLASSIC | config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(5)
    alphas = (*scheduler.alphas_cumprod[scheduler.timesteps].tolist(), scheduler.final_alpha_cumprod.item())
    kernel = DDIM(alphas, eta)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert kernel.steps == 5
    for step, timestep in enumerate(scheduler.timesteps):
        x, output, z = (doubles(2, 4, 3, 3, seed=10 * step + i).to(dtype) for i in range(3))
        mean, sigma = kernel.transition(step, x, prediction_of(output, x, alphas[step], prediction_type))
        expected = scheduler.step(output, timestep, x, eta=eta, variance_noise=z).prev_sample
        torch.testing.assert_close(mean + sigma * z, expected.to(dtype), rtol=tolerance, atol=tolerance)
        assert mean.dtype == dtype


@pytest.mark.parametrize("prediction_type", TYPES)
def test_every_step_of_consistency_is_diffusers_step(prediction_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = LCMScheduler(**SCHEDULE, prediction_type=prediction_type)
    schedule = diffusion_schedule(scheduler, 4, 1.0)
    scheduler.set_timesteps(4)
    assert schedule.times == tuple(scheduler.timesteps.tolist())
    for step, time in enumerate(scheduler.timesteps):
        x, output, noise = (doubles(2, 4, 3, 3, seed=10 * step + i).float() for i in range(3))
        monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, noise=noise, **__: noise)
        mean, sigma = schedule.kernel.transition(step, x, schedule.read(output, x, step))
        expected = scheduler.step(output, time, x).prev_sample
        torch.testing.assert_close(mean + sigma * noise, expected, rtol=1e-5, atol=1e-4)
    assert schedule.kernel.sigma(3) == 0


def test_without_fresh_noise_all_that_is_left_is_the_predicted_one() -> None:
    kernel = Renoising((0.1, 0.5, 1.0), 0.0)
    x = doubles(1, 4, 2, 2)
    x0, noise = 2 * x, 3 * x
    mean, sigma = kernel.transition(0, x, Prediction(x0, noise))
    torch.testing.assert_close(mean, 0.5**0.5 * x0 + 0.5**0.5 * noise)
    assert sigma == 0


def test_full_eta_has_the_posterior_variance_of_ddpm() -> None:
    """The variance of x_s given x_t and x0 is one over the sum of precisions of prior and likelihood."""
    alphas = (0.1, 0.3, 0.8, 0.99)
    for step, (here, there) in enumerate(pairwise(alphas)):
        prior, likelihood = 1 / (1 - there), (here / there) / (1 - here / there)
        assert DDIM(alphas, 1.0).sigma(step) ** 2 == pytest.approx(1 / (prior + likelihood))
        assert DDIM(alphas, 0.3).sigma(step) == pytest.approx(0.3 * DDIM(alphas, 1.0).sigma(step))
        assert DDIM(alphas, 0.0).sigma(step) == 0


def test_a_step_to_the_clean_latent_or_to_the_same_level_has_no_noise() -> None:
    kernel = DDIM((0.2, 0.2, 1.0), 1.0)
    assert [kernel.sigma(step) for step in range(2)] == [0, 0]
    x, output = doubles(2, 3, 2, 2), doubles(2, 3, 2, 2, seed=1)
    prediction = prediction_of(output, x, 0.2, "epsilon")
    torch.testing.assert_close(kernel.mean(0, x, prediction), x)
    torch.testing.assert_close(kernel.mean(1, x, prediction), prediction.x0)


def test_a_first_level_without_signal_works_with_velocity() -> None:
    kernel = DDIM((0.0, 0.36, 1.0), 1.0)
    x, velocity = doubles(1, 3, 2, 2), doubles(1, 3, 2, 2, seed=1)
    mean, sigma = kernel.transition(0, x, prediction_of(velocity, x, 0.0, "v_prediction"))
    torch.testing.assert_close(mean, -0.6 * velocity)
    assert sigma == pytest.approx(0.8)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5, 0.999])
def test_prediction_recovers_the_components_of_a_noisy_latent(prediction_type: PredictionType, alpha: float) -> None:
    x0, noise = doubles(2, 3, 4, 4), doubles(2, 3, 4, 4, seed=1)
    x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise
    output = {"epsilon": noise, "sample": x0, "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * x0}
    torch.testing.assert_close(prediction_of(output[prediction_type], x, alpha, prediction_type), (x0, noise))
    other = prediction_of(doubles(2, 3, 4, 4, seed=2), x, alpha, prediction_type)  # components of any output make up x
    torch.testing.assert_close(alpha**0.5 * other.x0 + (1 - alpha) ** 0.5 * other.noise, x)


def test_dynamic_threshold_is_that_of_diffusers() -> None:
    x0 = doubles(3, 4, 8, 8).float() * torch.tensor([0.1, 2.0, 30.0]).view(-1, 1, 1, 1)
    for quantile, maximum in ((0.995, 1.0), (0.9, 3.0)):
        options = {"dynamic_thresholding_ratio": quantile, "sample_max_value": maximum}
        expected = DDIMScheduler(thresholding=True, **options)._threshold_sample(x0)
        torch.testing.assert_close(dynamic_threshold(x0, quantile, maximum), expected)


BAD: list[tuple[type[Kernel], tuple[float, ...], str]] = [
    (DDIM, (0.5, 0.4), "must not fall"),
    (DDIM, (0.5,), "at least two levels"),
    *((FlowCPS, times, "must fall") for times in ((0.5, 0.6), (0.5, 0.5))),
    (FlowCPS, (1.2, 0.5), "must fall from 1"),
    (FlowCPS, (1.0,), "at least two levels"),
]


@pytest.mark.parametrize(("kind", "levels", "message"), BAD)
def test_a_bad_schedule_or_eta_is_refused(kind: type[Kernel], levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(levels, 1.0)
    for eta in (1.5, -0.1):
        with pytest.raises(ValueError, match=rf"eta is {eta}: give a number in \[0, 1\]"):
            kind((0.9, 0.1) if kind is FlowCPS else (0.1, 0.9), eta)


def test_bad_predictions_are_refused() -> None:
    x = doubles(1, 3, 2, 2)
    with pytest.raises(ValueError, match="use v_prediction or sample"):
        prediction_of(x, x, 0.0, "epsilon")
    with pytest.raises(ValueError, match="prediction_type is 'flow': choose one of epsilon, sample, v_prediction"):
        prediction_of(x, x, 0.5, "flow")


KERNELS = {
    "ddim": DDIM((0.1, 0.4, 0.9, 0.99), 0.7),
    "ancestral": FlowAncestral((1.0, 0.7, 0.4, 0.1), 0.9),
    "cps": FlowCPS((1.0, 0.7, 0.4, 0.1), 0.6),
    "sde": FlowSDE((0.9, 0.7, 0.4, 0.1), 0.7),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@every_kernel
def test_the_log_density_and_its_gradient_are_those_of_the_normal_distribution(kernel: Kernel) -> None:
    x, x0, noise, z = (doubles(5, 2, 3, 3, seed=seed) for seed in range(4))
    x0.requires_grad_()
    transition = kernel.transition(1, x, Prediction(x0, noise))
    drawn = transition.draw(z).detach()
    expected = Normal(transition.mean, transition.sigma).log_prob(drawn).flatten(1).mean(1)
    torch.testing.assert_close(transition.log_prob(drawn), expected)
    values = (transition.log_prob(drawn), expected)
    ours, theirs = (torch.autograd.grad(value.sum(), x0, retain_graph=True)[0] for value in values)
    torch.testing.assert_close(ours, theirs)


def test_a_deterministic_step_has_no_density() -> None:
    transition = DDIM((0.1, 1.0), 1.0).transition(0, doubles(1, 2), Prediction(doubles(1, 2), doubles(1, 2)))
    with pytest.raises(ValueError, match=r"sigma is 0: .* Give eta above 0, .* FlowSDE"):
        transition.log_prob(doubles(1, 2))


@every_kernel
def test_the_deterministic_twin_jumps_along_the_prediction(kernel: Kernel) -> None:
    twin = kernel.deterministic()
    x0, noise = doubles(2, 3, seed=1), doubles(2, 3, seed=2)
    for step in range(kernel.steps):
        signal, spread = kernel.shares(step)
        x = signal * x0 + spread * noise
        transition = twin.transition(step, x, Prediction(x0, noise))
        assert transition.sigma == 0
        torch.testing.assert_close(transition.mean, kernel.jump(step + 1, Prediction(x0, noise)))


@every_kernel
def test_renoising_keeps_the_marginals(kernel: Kernel) -> None:
    """Of latents ``signal x0 + noise z``, it makes those of the noisier level: the same signal, the same variance."""
    level, to = 3, 1
    x0, count = doubles(1, 1, seed=1), 200_000
    here, there = kernel.shares(level), kernel.shares(to)
    x = here.signal * x0 + here.noise * doubles(count, 1, seed=2)
    noisier = kernel.renoise(level, x, to, doubles(count, 1, seed=3))
    assert float(noisier.mean()) == pytest.approx(there.signal * float(x0), abs=0.01)
    assert float(noisier.var()) == pytest.approx(there.noise**2, rel=0.02)
    torch.testing.assert_close(kernel.renoise(level, x, level, x), x)
    with pytest.raises(ValueError, match="level 2 is cleaner than level 1: renoise to a level of at most 1"):
        kernel.renoise(1, x, 2, x)


@pytest.mark.parametrize(
    ("spacing", "steps", "same"), [("leading", 30, True), ("trailing", 20, True), ("trailing", 30, False)]
)
def test_a_step_ends_where_the_next_one_begins(spacing: str, steps: int, same: bool) -> None:
    """Diffusers' own DDIM ends it 1000 // steps lower, which is another level where steps do not divide 1,000."""
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    schedule = diffusion_schedule(scheduler, steps, 0.0)
    torch.testing.assert_close(torch.tensor(schedule.kernel.alphas[:-1]), scheduler.alphas_cumprod[times])
    x = output = torch.ones(1, 4, 2, 2)
    ours = [schedule.kernel.mean(step, x, schedule.read(output, x, step)) for step in range(steps)]
    theirs = [scheduler.step(output, time, x).prev_sample for time in times]
    assert torch.allclose(torch.stack(ours), torch.stack(theirs), atol=1e-5) == same
