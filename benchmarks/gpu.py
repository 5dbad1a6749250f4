"""Soups at full size on a GPU: ``python -m benchmarks.gpu``.

Pipelines of the size of Stable Diffusion 1.5 and XL, with random weights in bfloat16, steered by rewards that cost next
to nothing, so that what is measured is ours and the network's. For each, plain and with what should make it faster:
soups a minute, the share of time in the network, peak memory. The pictures are noise; nothing is downloaded. Without a
GPU it runs on the CPU, which takes hours: ``--models '[tiny]'`` shows that it works.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from jsonargparse import auto_cli
from rich.console import Console
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from rewards import Reward
from srsoup_lightning import Preferences
from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.families.stable_diffusion_xl import StableDiffusionXL
from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.samplers import Auto, Problem
from srsoup_lightning.samplers.probe import probe

SAMPLER = Auto(num_inference_steps=10, guidance_scale=5.0)
WAYS = {
    "plain": {},
    "channels_last": {"channels_last": True},
    "compile": {"regional_compile": True},
    "channels_last and compile": {"channels_last": True, "regional_compile": True},
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
MIB = 2**20


def main(
    models: list[str] = ["sd15", "sdxl"],  # noqa: B006 - jsonargparse shows the default
    ways: list[str] = list(WAYS),  # noqa: B006
    divisions: int = 5,
    soups: int = 2,
    max_batch: int = 16,
    out: Path = Path("benchmarks/results/gpu.json"),
) -> None:
    """Measure and write, with the device's name.

    Args:
        models: "sd15", "sdxl", or "tiny" to try the script.
        ways: Which settings, by name.
        divisions: Of the lattice of preferences between the two rewards.
        soups: How many are timed, after one that warms up.
        max_batch: Latents that the network sees at once.
        out: Where the numbers go.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    results = {"device": name, "torch": torch.__version__, "dtype": "bfloat16", "models": {}}
    for model in models:
        results["models"][model] = {way: _measure(model, way, device, divisions, soups, max_batch) for way in ways}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        Console().print_json(json.dumps({model: results["models"][model]}))


def _measure(
    model: str, way: str, device: torch.device, divisions: int, soups: int, max_batch: int
) -> dict[str, float]:
    backbone = MODELS[model]().to(device)
    options = {"tiling": False, "slicing": False, "attention": None, "channels_last": False, "regional_compile": False}
    tune(backbone.network, backbone.pipeline.vae, **options | WAYS[way])
    preferences = Preferences.lattice(["bright", "red"], divisions)
    problem = partial(_problem, backbone, max_batch)
    SAMPLER.run(problem(), preferences, "a lobster", 0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ledgers = [SAMPLER.run(problem(), preferences, "a lobster", seed).ledger for seed in range(1, soups + 1)]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    seconds, nfe = (sum(getattr(ledger, what) for ledger in ledgers) for what in ("seconds", "nfe"))
    rates = probe(problem())
    return {
        "soups_a_minute": 60 * soups / seconds,
        "network_share": rates.evaluation * nfe / seconds,
        "decoder_share": rates.decode * sum(ledger.decodes for ledger in ledgers) / seconds,
        "milliseconds_an_evaluation": 1e3 * rates.evaluation,
        "peak_mib": peak / MIB,
        "nfe_a_soup": nfe / soups,
    }


def _problem(backbone: PipelineBackbone, max_batch: int) -> Problem:
    denoiser = backbone.bind(
        "a lobster",
        num_inference_steps=SAMPLER.num_inference_steps,
        guidance_scale=SAMPLER.guidance_scale,
        eta=SAMPLER.eta,
    )
    return Problem(denoiser, RewardOracle({"bright": Bright(), "red": Red()}), max_batch)


class Bright(Reward):
    """Mean of all channels."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """See :meth:`Reward.score`."""
        return images.mean((1, 2, 3))


class Red(Reward):
    """Mean of the red channel."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """See :meth:`Reward.score`."""
        return images[:, 0].mean((1, 2))


def sd15() -> StableDiffusion:
    """Stable Diffusion 1.5's sizes, 512 pixels."""
    unet = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
    return StableDiffusion(_pipeline(unet, (128, 256, 512, 512)))


def sdxl() -> StableDiffusionXL:
    """Stable Diffusion XL's sizes, 1024 pixels."""
    unet = {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 1280,
    }
    return StableDiffusionXL(_pipeline(unet, (128, 256, 512, 512), second_text_encoder=True))


def tiny() -> StableDiffusion:
    """A few kilobytes, 16 pixels."""
    unet = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 768,
    }
    return StableDiffusion(_pipeline(unet, (32, 64)))


MODELS: dict[str, Callable[[], PipelineBackbone]] = {"sd15": sd15, "sdxl": sdxl, "tiny": tiny}


def _pipeline(unet: dict[str, object], widths: tuple[int, ...], second_text_encoder: bool = False) -> DiffusionPipeline:
    """Random weights in bfloat16, with the tokenizer of the builtin pipeline."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(str(PIPELINES.find("tiny-animals")), subfolder="tokenizer")
    components = {
        "vae": AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=2,
            latent_channels=4,
        ),
        "unet": UNet2DConditionModel(**unet),
        "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)),
        "tokenizer": tokenizer,
        "scheduler": DDIMScheduler(**SCHEDULE),
    }
    if second_text_encoder:
        large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        second = CLIPTextModelWithProjection(CLIPTextConfig(**large, projection_dim=1280))
        pipeline = StableDiffusionXLPipeline(
            **components, text_encoder_2=second, tokenizer_2=tokenizer, add_watermarker=False
        )
    else:
        unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**components, **unchecked)
    return pipeline.to(torch.bfloat16)


if __name__ == "__main__":
    auto_cli(main)
