"""Stable Diffusion with every scheduler, distilled and builtin, and the options that all backbones have."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
)
from torch import nn

from srsoup_lightning import Preferences
from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.samplers import Auto
from tests.diffusion.conftest import CLASSIC, SCHEDULE, load, refused, same_picture, tiny_pipeline, tiny_preview_decoder
from tests.diffusion.drawing import DISTILLED, WAYS, bound, by_pipeline, by_sampler, shared, with_scheduler
from tests.samplers.toys import normal, run

STEPS = 4
OPTIONS = {"prompt": "a cat", "num_inference_steps": STEPS, "guidance_scale": 1.0, "eta": 1.0}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
PNDM = {"steps_offset": 1, "set_alpha_to_one": False, "skip_prk_steps": True}
SCHEDULERS = {
    "sd 1.5": DDIMScheduler(**CLASSIC),
    "velocity": DDIMScheduler(**CLASSIC, prediction_type="v_prediction"),
    "sample": DDIMScheduler(**CLASSIC, prediction_type="sample"),
    "trailing": DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing"),
    "no signal at first": DDIMScheduler(**SCHEDULE, **ZERO_SNR, clip_sample=False, timestep_spacing="trailing"),
    "clipped": DDIMScheduler(**SCHEDULE, clip_sample=True, clip_sample_range=0.7),
    "thresholded": DDIMScheduler(**SCHEDULE, clip_sample=False, thresholding=True, sample_max_value=1.5),
    "PNDM": PNDMScheduler(**SCHEDULE, **PNDM),
}


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_base_model_without_noise_draws_the_pipeline_s_own_picture(
    scheduler: SchedulerMixin, guidance_scale: float
) -> None:
    backbone = with_scheduler("SD", scheduler)
    way = WAYS["SD"]._replace(guidance_scale=guidance_scale, evaluations=2 if guidance_scale > 1 else 1)
    expected = by_pipeline(backbone, way)
    assert expected.std() > 0.01
    same_picture(by_sampler(backbone, way), expected)


def test_a_scheduler_without_a_word_on_clipping_does_not_clip() -> None:
    backbone = with_scheduler("SD", EulerDiscreteScheduler(**SCHEDULE))
    denoiser = backbone.bind(**OPTIONS)
    x = 100 * normal(1, *denoiser.shape)
    assert denoiser.denoise(x, STEPS - 1).x0.abs().max() > 10


@pytest.mark.parametrize(
    "scheduler",
    [EDMEulerScheduler(), FlowMatchEulerDiscreteScheduler(), DPMSolverMultistepScheduler(use_flow_sigmas=True)],
    ids=["EDM", "flow", "solver of a flow"],
)
def test_a_scheduler_of_another_kind_of_model_is_named(scheduler: SchedulerMixin) -> None:
    """DDIM would take its own betas for what the config doesn't say, and draw nonsense."""
    backbone = with_scheduler("SD", scheduler)
    with pytest.raises(ValueError, match=f"pipeline's {type(scheduler).__name__} is of no variance-preserving"):
        backbone.bind(**OPTIONS)


def test_a_denoiser_knows_its_shape_and_its_evaluations() -> None:
    backbone = StableDiffusion(shared("SD").pipeline, height=20, width=16)
    guided, plain = (
        backbone.bind(**OPTIONS | {"num_inference_steps": 7, "guidance_scale": scale}) for scale in (5.0, 1.0)
    )
    assert (guided.evaluations, plain.evaluations) == (2, 1)
    assert guided.shape == (4, 10, 8)
    assert guided.kernel.steps == 7
    images = guided.decode(10 * normal(3, 4, 10, 8))
    assert (images.shape, images.dtype) == ((3, 3, 20, 16), torch.float32)
    assert 0 <= images.min() <= images.max() <= 1


def test_the_networks_are_frozen_submodules_and_stay_in_eval_mode() -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.train()
    backbone = StableDiffusion(pipeline)
    parent = nn.Sequential(backbone, nn.Dropout()).train()
    assert {name.split(".")[0] for name, _ in backbone.named_parameters()} == {"unet", "vae", "text_encoder"}
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert parent.training
    assert parent[1].training


def test_chunks_of_the_batch_change_nothing() -> None:
    names = ["red", "green"]
    rewards = {name: lambda images, j=j: images[:, j].mean((1, 2)) for j, name in enumerate(names)}
    preferences = Preferences.lattice(names, 2)
    denoiser = shared("SD").bind(**OPTIONS | {"num_inference_steps": 3, "guidance_scale": 5.0})
    options = {"num_inference_steps": 3, "candidates": 2, "selection": None}
    samplers = [Auto(**options, max_batch=size) for size in (3, 64)]
    pictures = [run(sampler, preferences, rewards, denoiser=denoiser).images for sampler in samplers]
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("side", "value"), [("height", 17), ("width", 1), ("height", 0), ("width", -4)])
def test_a_size_that_the_model_cannot_draw_is_named(side: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{side} is {value}: this model draws multiples of 2 pixels, natively 16"):
        StableDiffusion(shared("SD").pipeline, **{side: value})


def test_more_steps_than_the_model_was_trained_on_are_refused() -> None:
    with pytest.raises(ValueError, match="1001"):
        shared("SD").bind(**OPTIONS | {"num_inference_steps": 1001})


def test_a_tiny_autoencoder_decodes_what_rewards_see_and_nothing_else(pipeline_folder: Path, tmp_path: Path) -> None:
    tiny = tiny_preview_decoder(4)
    tiny.save_pretrained(tmp_path)
    denoiser = load(pipeline_folder, preview_decoder=str(tmp_path)).bind(**OPTIONS)
    x = normal(2, 4, 8, 8)
    expected = (tiny.decode(x).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(denoiser.decode_preview(x), expected)
    assert not torch.allclose(denoiser.decode(x), expected)


def test_a_preview_decoder_of_other_latents_is_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    tiny_preview_decoder(16).save_pretrained(tmp_path)
    message = "reads 16 latent channels and the pipeline makes 4"
    refused(pipeline_folder, ValueError, message, preview_decoder=str(tmp_path))


def test_a_folder_that_is_no_preview_decoder_is_named_and_diffusers_adds_nothing(
    pipeline_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "handlers", [caplog.handler])
    (tmp_path / "config.json").write_text("{}")
    refused(pipeline_folder, FileNotFoundError, "no preview decoder", preview_decoder=str(tmp_path))
    assert not caplog.records


@pytest.mark.parametrize("guidance_scale", [1.0, 8.5])
def test_one_step_draws_the_pipeline_s_own_picture(guidance_scale: float) -> None:
    """A single step has no fresh noise, so that the pipeline's own has nothing to draw."""
    latents, backbone = normal(1, 4, 8, 8), shared("LCM")
    options = {"prompt": "a cat", "num_inference_steps": 1, "guidance_scale": guidance_scale}
    size = {"height": 16, "width": 16}
    expected = backbone.pipeline(**options, **size, latents=latents, output_type="pt").images
    denoiser, other = (backbone.bind(**options | changed, eta=1.0) for changed in ({}, {"guidance_scale": 3.0}))
    assert denoiser.evaluations == 1
    mean, sigma = denoiser.kernel.transition(0, latents, denoiser.denoise(latents, 0))
    assert sigma == 0
    same_picture(denoiser.decode(mean), expected)
    assert (other.denoise(latents, 0).x0 - mean).abs().max() > 1e-4


def test_a_distilled_model_is_led_away_from_nothing() -> None:
    with pytest.raises(ValueError, match="negative_prompt is 'dog': distilled guidance leads away from nothing"):
        bound(shared("LCM"), DISTILLED._replace(negative_prompt="dog"))


@pytest.fixture(scope="module")
def animals() -> tuple[StableDiffusionPipeline, PipelineBackbone]:
    """The builtin pipeline as diffusers loads it, and as a backbone."""
    loaded = StableDiffusionPipeline.from_pretrained(PIPELINES.find("tiny-animals"), dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded, load("tiny-animals")


# At eta 1, sigma comes from differences of signal powers near 0, which diffusers has in float32.
@pytest.mark.parametrize(("eta", "tolerance"), [(0.0, 1e-4), (1.0, 1e-3)])
@pytest.mark.parametrize(("guidance_scale", "negative_prompt"), [(1.0, ""), (5.0, ""), (5.0, "a snail")])
def test_tiny_animals_draws_what_diffusers_draws(
    eta: float,
    tolerance: float,
    guidance_scale: float,
    negative_prompt: str,
    animals: tuple[StableDiffusionPipeline, PipelineBackbone],
) -> None:
    pipeline, backbone = animals
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    options = {"num_inference_steps": STEPS, "guidance_scale": guidance_scale, "eta": eta}
    options |= {"negative_prompt": negative_prompt}
    rng = torch.Generator().manual_seed(0)  # for the start, and then for every step
    expected = pipeline("a lobster", **options, generator=rng, output_type="pt").images
    assert expected.std() > 0.05
    denoiser, rng = backbone.bind("a lobster", **options), rng.manual_seed(0)
    x = torch.randn(1, *denoiser.shape, generator=rng)
    with torch.no_grad():
        for step in range(STEPS):
            mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
            x = mean + sigma * torch.randn(x.shape, generator=rng)
        torch.testing.assert_close(denoiser.decode(x), expected, rtol=0, atol=tolerance)
