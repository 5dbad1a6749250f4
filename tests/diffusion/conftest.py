"""A tiny Stable Diffusion with random weights, in memory and on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.rewards.conftest import one_line, tiny_tokenizer
from tests.samplers.toys import normal

TOKENS = 16  # of a prompt, at most
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BLOCKS = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "sample_size": 16,
}
UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
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
    width = {"hidden_size": 32, "projection_dim": 32, "intermediate_size": 32, "vocab_size": len(tokenizer)}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": TOKENS}
    return kind(CLIPTextConfig(**width, **layers, **ids))


def prepared(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """In eval mode, silent, and with text encoders whose prompts matter."""
    for name, component in pipeline.components.items():
        if isinstance(component, nn.Module):
            component.eval()
            if name.startswith("text_encoder"):
                heavy(component, std=0.3)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_pipeline() -> StableDiffusionPipeline:
    """16 pixels wide, 4 x 8 x 8 latents, with the scheduler of Stable Diffusion 1.5 as DDIM."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(4),
        text_encoder=clip_text(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        unet=UNet2DConditionModel(**UNET, cross_attention_dim=32),
        scheduler=DDIMScheduler(**CLASSIC),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return prepared(pipeline)


def load(source: Path | str, **options: object) -> PipelineBackbone:
    return load_backbone(str(source), Loading(**options))


def refused(source: Path | str, error: type[Exception], message: str, **options: object) -> None:
    """Expect that loading fails with a message of one line that matches."""
    with one_line(error, message):
        load(source, **options)


def tiny_preview_decoder(channels: int) -> AutoencoderTiny:
    sides = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    counts = {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    return AutoencoderTiny(**sides, **counts, latent_channels=channels).eval()


def doubles(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_picture(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def prediction(backbone: Backbone) -> Tensor:
    """The clean latent that a model predicts of noise, at the second of three levels."""
    denoiser = backbone.bind("a cat", num_inference_steps=3, guidance_scale=1.0, eta=1.0)
    return denoiser.denoise(normal(1, *denoiser.shape), 1).x0


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def edited(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(pipeline_folder, tmp_path / "edited"))


@pytest.fixture(scope="session")
def plain(pipeline_folder: Path) -> PipelineBackbone:
    """The folder's pipeline, loaded without options; for tests that leave it as it is."""
    return load(pipeline_folder)


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
