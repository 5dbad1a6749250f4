"""Stable Diffusion with every scheduler, and the options that all backbones have."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
)
from torch import nn

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.samplers import Auto
from tests.diffusion.conftest import CLASSIC, SCHEDULE, tiny_pipeline
from tests.diffusion.drawing import WAYS, by_pipeline, by_sampler, shared, with_scheduler
from tests.samplers.toys import run

PROMPT, STEPS = "a cat", 4
SCHEDULERS = {
    "sd 1.5": DDIMScheduler(**CLASSIC),
    "velocity": DDIMScheduler(**CLASSIC, prediction_type="v_prediction"),
    "sample": DDIMScheduler(**CLASSIC, prediction_type="sample"),
    "trailing": DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing"),
    "no signal at first": DDIMScheduler(
        **SCHEDULE,
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    ),
    "clipped": DDIMScheduler(**SCHEDULE, clip_sample=True, clip_sample_range=0.7),
    "thresholded": DDIMScheduler(**SCHEDULE, clip_sample=False, thresholding=True, sample_max_value=1.5),
    "PNDM": PNDMScheduler(**SCHEDULE, steps_offset=1, set_alpha_to_one=False, skip_prk_steps=True),
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
    torch.testing.assert_close(by_sampler(backbone, way), expected, rtol=0, atol=1e-4)


def test_a_scheduler_without_a_word_on_clipping_does_not_clip() -> None:
    backbone = with_scheduler("SD", EulerDiscreteScheduler(**SCHEDULE))
    denoiser = backbone.bind(PROMPT, num_inference_steps=STEPS, guidance_scale=1.0, eta=1.0)
    x = 100 * torch.randn(1, *denoiser.shape, generator=torch.Generator().manual_seed(0))
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
        backbone.bind(PROMPT, num_inference_steps=STEPS, guidance_scale=1.0, eta=1.0)


def test_a_denoiser_knows_its_shape_and_its_evaluations() -> None:
    backbone = StableDiffusion(shared("SD").pipeline, height=20, width=16)
    options = {"num_inference_steps": 7, "eta": 1.0}
    guided, plain = (backbone.bind(PROMPT, guidance_scale=scale, **options) for scale in (5.0, 1.0))
    assert (guided.evaluations, plain.evaluations) == (2, 1)
    assert guided.shape == (4, 10, 8)
    assert guided.kernel.steps == 7
    images = guided.decode(10 * torch.randn(3, 4, 10, 8, generator=torch.Generator().manual_seed(0)))
    assert (images.shape, images.dtype) == ((3, 3, 20, 16), torch.float32)
    assert images.min() >= 0
    assert images.max() <= 1


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
    denoiser = shared("SD").bind(PROMPT, num_inference_steps=3, guidance_scale=5.0, eta=1.0)
    pictures = [
        run(
            Auto(num_inference_steps=3, candidates=2, selection=None, max_batch=size),
            preferences,
            rewards,
            denoiser=denoiser,
        ).images
        for size in (3, 64)
    ]
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("side", "value"), [("height", 18), ("width", 2), ("height", 0), ("width", -4)])
def test_a_size_that_the_model_cannot_draw_is_named(side: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{side} is {value}: this model draws multiples of 4 pixels, natively 16"):
        StableDiffusion(shared("SD").pipeline, **{side: value})


def test_more_steps_than_the_model_was_trained_on_are_refused() -> None:
    with pytest.raises(ValueError, match="1001"):
        shared("SD").bind(PROMPT, num_inference_steps=1001, guidance_scale=1.0, eta=1.0)


def test_a_tiny_autoencoder_decodes_what_rewards_see_and_nothing_else(pipeline_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    tiny.save_pretrained(tmp_path / "tiny")
    denoiser = load_backbone(str(pipeline_folder), Loading(preview_decoder=str(tmp_path / "tiny"))).bind(
        PROMPT, num_inference_steps=STEPS, guidance_scale=5.0, eta=1.0
    )
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = (tiny.decode(x).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(denoiser.decode_preview(x), expected)
    assert not torch.allclose(denoiser.decode(x), expected)


def test_a_preview_decoder_of_other_latents_is_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    AutoencoderTiny(latent_channels=16).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="reads 16 latent channels and the pipeline makes 4"):
        load_backbone(str(pipeline_folder), Loading(preview_decoder=str(tmp_path)))


def test_a_folder_that_is_no_preview_decoder_is_named_and_diffusers_adds_nothing(
    pipeline_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "handlers", [caplog.handler])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no preview decoder"):
        load_backbone(str(pipeline_folder), Loading(preview_decoder=str(tmp_path)))
    assert not caplog.records


def test_a_preview_decoder_that_is_not_there_is_named(pipeline_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no preview decoder '/no/such': give a folder or hub id"):
        load_backbone(str(pipeline_folder), Loading(preview_decoder="/no/such"))
