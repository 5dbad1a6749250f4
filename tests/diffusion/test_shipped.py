"""The builtin pipeline against diffusers' own call of it, without fresh noise and with the same."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone

PROMPT, STEPS = "a lobster", 4


@pytest.fixture(scope="module")
def backbone() -> PipelineBackbone:
    return load_backbone("tiny-animals")


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(PIPELINES.find("tiny-animals"), dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn(
    backbone: PipelineBackbone, eta: float, guidance_scale: float, negative_prompt: str, rng: torch.Generator
) -> Tensor:
    denoiser = backbone.bind(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        eta=eta,
        negative_prompt=negative_prompt,
    )
    x = torch.randn(1, *denoiser.shape, generator=rng)
    with torch.no_grad():
        for step in range(STEPS):
            mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
            x = mean + sigma * torch.randn(x.shape, generator=rng)
        return denoiser.decode(x)


# At eta 1, sigma comes from differences of signal powers near 0, which diffusers has in float32.
@pytest.mark.parametrize(("eta", "tolerance"), [(0.0, 1e-4), (1.0, 1e-3)])
@pytest.mark.parametrize(("guidance_scale", "negative_prompt"), [(1.0, ""), (5.0, ""), (5.0, "a snail")])
def test_tiny_animals_draws_what_diffusers_draws(
    eta: float,
    tolerance: float,
    guidance_scale: float,
    negative_prompt: str,
    backbone: PipelineBackbone,
    pipeline: StableDiffusionPipeline,
) -> None:
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    expected = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        eta=eta,
        generator=torch.Generator().manual_seed(0),  # for the start, and then for every step
        output_type="pt",
    ).images
    assert expected.std() > 0.05
    found = drawn(backbone, eta, guidance_scale, negative_prompt, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
