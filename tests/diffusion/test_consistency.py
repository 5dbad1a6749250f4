"""Latent consistency models against diffusers' own scheduler and pipeline."""

from __future__ import annotations

import pytest
import torch
from diffusers import LCMScheduler

from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.schedule import diffusion_schedule
from srsoup_lightning.diffusion.transition import Prediction, Renoising
from tests.diffusion.conftest import SCHEDULE
from tests.diffusion.pipelines import make

PROMPT, STEPS = "a cat", 4


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_every_step_is_diffusers_step_with_the_same_noise(
    prediction_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = LCMScheduler(**SCHEDULE, prediction_type=prediction_type)
    schedule = diffusion_schedule(scheduler, STEPS, 1.0)
    scheduler.set_timesteps(STEPS)
    assert schedule.times == tuple(scheduler.timesteps.tolist())
    for step, time in enumerate(scheduler.timesteps):
        rng = torch.Generator().manual_seed(step)
        x, output, noise = (torch.randn(2, 4, 3, 3, generator=rng) for _ in range(3))
        monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, noise=noise, **__: noise)
        mean, sigma = schedule.kernel.transition(step, x, schedule.read(output, x, step))
        expected = scheduler.step(output, time, x).prev_sample
        torch.testing.assert_close(mean + sigma * noise, expected, rtol=1e-5, atol=1e-4)
    assert schedule.kernel.sigma(STEPS - 1) == 0


def test_without_fresh_noise_all_that_is_left_is_the_predicted_one() -> None:
    kernel = Renoising((0.1, 0.5, 1.0), 0.0)
    x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    x0, noise = 2 * x, 3 * x
    mean, sigma = kernel.transition(0, x, Prediction(x0, noise))
    torch.testing.assert_close(mean, 0.5**0.5 * x0 + 0.5**0.5 * noise)
    assert sigma == 0


@pytest.mark.parametrize("guidance_scale", [1.0, 8.5])
def test_one_step_draws_the_pipeline_s_own_picture(guidance_scale: float) -> None:
    """A single step has no fresh noise, so that the pipeline's own has nothing to draw."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = make("LCM")(
        PROMPT,
        height=16,
        width=16,
        num_inference_steps=1,
        guidance_scale=guidance_scale,
        latents=latents,
        output_type="pt",
    ).images
    options = {"num_inference_steps": 1, "eta": 1.0}
    denoiser = StableDiffusion(make("LCM"), height=16).bind(PROMPT, guidance_scale=guidance_scale, **options)
    assert denoiser.evaluations == 1
    mean, sigma = denoiser.kernel.transition(0, latents, denoiser.denoise(latents, 0))
    assert sigma == 0
    torch.testing.assert_close(denoiser.decode(mean), expected, rtol=0, atol=1e-4)
    other = StableDiffusion(make("LCM"), height=16).bind(PROMPT, guidance_scale=3.0, **options)
    assert (other.denoise(latents, 0).x0 - mean).abs().max() > 1e-4


def test_a_distilled_model_is_led_away_from_nothing() -> None:
    with pytest.raises(ValueError, match="negative_prompt is 'dog': distilled guidance leads away from nothing"):
        StableDiffusion(make("LCM")).bind(
            PROMPT, num_inference_steps=1, guidance_scale=1.0, eta=1.0, negative_prompt="dog"
        )
