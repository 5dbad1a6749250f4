"""A tiny Stable Diffusion with random weights, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.rewards.conftest import tiny_tokenizer

TOKENS = 16  # of a prompt, at most
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BLOCKS = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "sample_size": 16,
}
CLASSIC = {**SCHEDULE, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}


def autoencoder(channels: int, **config: object) -> AutoencoderKL:
    """Two pixels a latent."""
    return AutoencoderKL(**BLOCKS, latent_channels=channels, **config)


def heavy(network: nn.Module, std: float = 0.2) -> nn.Module:
    """A network whose weights let a few words matter, even among hundreds of tokens of template and padding."""
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=std)
    return network


def clip_tokenizer() -> CLIPTokenizer:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = TOKENS
    return tokenizer


def clip_text(kind: type[CLIPTextModel | CLIPTextModelWithProjection]) -> CLIPTextModel:
    tokenizer = clip_tokenizer()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            projection_dim=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            **ids,
        )
    )


def tiny_pipeline(scheduler: SchedulerMixin | None = None) -> StableDiffusionPipeline:
    """16 pixels wide, 4 x 8 x 8 latents; without a scheduler, that of Stable Diffusion 1.5 as DDIM."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    vae = autoencoder(4)
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=heavy(clip_text(CLIPTextModel), std=0.3).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet.eval(),
        scheduler=DDIMScheduler(**CLASSIC),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None:  # the pipeline's constructor would edit it: offset 1, no clipping
        pipeline.scheduler = scheduler
    return pipeline


def prediction(backbone: Backbone) -> Tensor:
    """The clean latent that a model predicts of noise, at the second of three levels."""
    denoiser = backbone.bind("a cat", num_inference_steps=3, guidance_scale=1.0, eta=1.0)
    x = torch.randn(1, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    return denoiser.denoise(x, 1).x0


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def plain(pipeline_folder: Path) -> PipelineBackbone:
    """The folder's pipeline, loaded without options; for tests that leave it as it is."""
    return load_backbone(str(pipeline_folder))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny pipeline."""
    from tests.diffusion.pipelines import make

    @cache
    def save(family: str) -> Path:
        folder = tmp_path_factory.mktemp("family")
        make(family).save_pretrained(folder)
        return folder

    return save
