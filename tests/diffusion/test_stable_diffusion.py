"""The adapter against the pipeline that it adapts."""

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
    StableDiffusionPipeline,
)
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import BaseModel, Problem, RewardOracle, SRSoup
from tests.diffusion.conftest import CLASSIC, SCHEDULE, tiny_pipeline

PROMPT, SEED, STEPS = "cat", 3, 4
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


def by_sampler(pipeline: StableDiffusionPipeline, sampler: BaseModel, negative_prompt: str = "", **size: int) -> Tensor:
    denoiser = StableDiffusion(pipeline, **size).bind(
        PROMPT,
        num_inference_steps=sampler.num_inference_steps,
        guidance_scale=sampler.guidance_scale,
        eta=sampler.eta,
        negative_prompt=negative_prompt,
    )
    problem = Problem(
        denoiser, RewardOracle({"mean": lambda images, prompts: images.mean((1, 2, 3))}), sampler.max_batch
    )
    soup = sampler.run(problem, Preferences(["mean"], [[1.0]]), PROMPT, SEED)
    assert soup.ledger.nfe == STEPS * (2 if sampler.guidance_scale > 1 else 1)
    return soup.images


def by_pipeline(pipeline: StableDiffusionPipeline, guidance_scale: float, side: int = 16, **options: object) -> Tensor:
    """The pipeline's own picture, by diffusers' DDIM with the settings of its scheduler."""
    own = tiny_pipeline()
    clip = pipeline.scheduler.config.get("clip_sample", False)
    own.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=clip)
    return own(
        PROMPT,
        height=side,
        width=side,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        latents=NoiseSource(PROMPT, SEED, (4, side // 2, side // 2)).start()[None],
        output_type="pt",
        **options,
    ).images


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_base_model_without_noise_draws_the_pipeline_s_own_picture(
    scheduler: SchedulerMixin, guidance_scale: float
) -> None:
    pipeline = tiny_pipeline(scheduler)
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=guidance_scale, eta=0.0)
    expected = by_pipeline(pipeline, guidance_scale)
    assert expected.std() > 0.01
    torch.testing.assert_close(by_sampler(pipeline, sampler), expected, rtol=0, atol=1e-4)


def test_guidance_leads_away_from_the_negative_prompt() -> None:
    pipeline = tiny_pipeline()
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=5.0, eta=0.0)
    expected = by_pipeline(pipeline, 5.0, negative_prompt="a dog")
    torch.testing.assert_close(by_sampler(pipeline, sampler, "a dog"), expected, rtol=0, atol=1e-4)
    assert (by_sampler(pipeline, sampler) - expected).abs().max() > 1e-3


def test_another_size_is_drawn_as_the_pipeline_draws_it() -> None:
    pipeline = tiny_pipeline()
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=5.0, eta=0.0)
    found = by_sampler(pipeline, sampler, height=24, width=24)
    torch.testing.assert_close(found, by_pipeline(pipeline, 5.0, side=24), rtol=0, atol=1e-4)


def test_a_scheduler_without_a_word_on_clipping_does_not_clip() -> None:
    backbone = StableDiffusion(tiny_pipeline(EulerDiscreteScheduler(**SCHEDULE)))
    denoiser = backbone.bind(PROMPT, num_inference_steps=STEPS, guidance_scale=1.0, eta=1.0)
    x = 100 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert denoiser.denoise(x, STEPS - 1).x0.abs().max() > 10


@pytest.mark.parametrize(
    "scheduler",
    [EDMEulerScheduler(), FlowMatchEulerDiscreteScheduler(), DPMSolverMultistepScheduler(use_flow_sigmas=True)],
    ids=["EDM", "flow", "solver of a flow"],
)
def test_a_scheduler_of_another_kind_of_model_is_named(scheduler: SchedulerMixin) -> None:
    """DDIM would take its own betas for what the config doesn't say, and draw nonsense."""
    backbone = StableDiffusion(tiny_pipeline(scheduler))
    with pytest.raises(ValueError, match=f"pipeline's {type(scheduler).__name__} is of no variance-preserving"):
        backbone.bind(PROMPT, num_inference_steps=STEPS, guidance_scale=1.0, eta=1.0)


def test_a_denoiser_says_what_it_is() -> None:
    backbone = StableDiffusion(tiny_pipeline(), height=20, width=16)
    options = {"num_inference_steps": 7, "eta": 1.0}
    guided, plain = (backbone.bind(PROMPT, guidance_scale=scale, **options) for scale in (5.0, 1.0))
    assert (guided.evaluations, plain.evaluations) == (2, 1)
    assert guided.shape == (4, 10, 8)
    assert guided.kernel.steps == 7
    images = guided.decode(10 * torch.randn(3, 4, 10, 8, generator=torch.Generator().manual_seed(0)))
    assert (images.shape, images.dtype) == ((3, 3, 20, 16), torch.float32)
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_networks_are_frozen_submodules_in_eval_mode() -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.train()
    backbone = StableDiffusion(pipeline)
    assert {name.split(".")[0] for name, _ in backbone.named_parameters()} == {"unet", "vae", "text_encoder"}
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert not any(part.training for network in backbone.children() for part in network.modules())


def test_chunks_of_the_batch_change_nothing() -> None:
    pipeline = tiny_pipeline()
    names = ["red", "green"]
    rewards = {name: lambda images, prompts, j=j: images[:, j].mean((1, 2)) for j, name in enumerate(names)}
    pictures = []
    for max_batch in (3, 64):
        sampler = SRSoup(num_inference_steps=3, candidates=4, max_batch=max_batch)
        denoiser = StableDiffusion(pipeline).bind(PROMPT, num_inference_steps=3, guidance_scale=5.0, eta=1.0)
        problem = Problem(denoiser, RewardOracle(rewards), max_batch)
        pictures.append(sampler.run(problem, Preferences.lattice(names, 2), PROMPT, SEED).images)
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("side", "value"), [("height", 18), ("width", 2), ("height", 0), ("width", -4)])
def test_a_size_that_the_model_cannot_draw_is_named(side: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{side} is {value}: this model draws multiples of 4 pixels, natively 16"):
        StableDiffusion(tiny_pipeline(), **{side: value})


def test_more_steps_than_the_model_was_trained_on_are_refused() -> None:
    with pytest.raises(ValueError, match="1001"):
        StableDiffusion(tiny_pipeline()).bind(PROMPT, num_inference_steps=1001, guidance_scale=1.0, eta=1.0)


def test_an_unguided_prediction_is_that_of_guidance_scale_one() -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    backbone = StableDiffusion(tiny_pipeline())
    options = {"num_inference_steps": STEPS, "eta": 1.0, "negative_prompt": "dog"}
    guided = backbone.bind(PROMPT, guidance_scale=5.0, **options)
    plain = backbone.bind(PROMPT, guidance_scale=1.0, **options)
    torch.testing.assert_close(guided.denoise_unguided(x, 1), plain.denoise(x, 1))
    assert not torch.allclose(guided.denoise(x, 1).x0, plain.denoise(x, 1).x0)


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
