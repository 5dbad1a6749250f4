"""Tiny pipelines with random weights, one of each family, in the format of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from tests.diffusion.conftest import SCHEDULE, UNET, autoencoder, clip_text, clip_tokenizer, prepared, tiny_pipeline
from tests.diffusion.language_pipelines import LANGUAGE

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


def t5_tokenizer() -> transformers.T5TokenizerFast:
    words = [f"▁{word}" for word in ("a", "cat", "dog", "photo")]
    pieces = ["<pad>", "</s>", "<unk>", *words, "▁", *"abcdefghijklmnop"]
    vocabulary = [(piece, -float(rank)) for rank, piece in enumerate(pieces)]
    return transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=0)


def t5(width: int = 32, kind: type = transformers.T5EncoderModel) -> transformers.T5EncoderModel:
    sizes = {"vocab_size": 64, "d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return kind(transformers.T5Config(**sizes, dropout_rate=0.0))


def latent_consistency() -> DiffusionPipeline:
    plain = tiny_pipeline()
    unet = diffusers.UNet2DConditionModel(**UNET, cross_attention_dim=32, time_cond_proj_dim=16)
    components = {**plain.components, "unet": unet, "scheduler": diffusers.LCMScheduler(**SCHEDULE)}
    return diffusers.LatentConsistencyModelPipeline(**components, requires_safety_checker=False)


def stable_diffusion_xl(velocity: bool = False, **vae: object) -> DiffusionPipeline:
    """Of velocity, it has zero terminal SNR: the first level has no signal."""
    zero_snr = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    schedule = zero_snr if velocity else {"steps_offset": 1, "timestep_spacing": "leading"}
    pooled = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(4, **{"scaling_factor": 0.13025} | vae),
        text_encoder=clip_text(transformers.CLIPTextModel),
        text_encoder_2=clip_text(transformers.CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=diffusers.UNet2DConditionModel(
            **UNET, **pooled, cross_attention_dim=64, projection_class_embeddings_input_dim=6 * 8 + 32
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE, **schedule),
        add_watermarker=False,
    )


def stable_diffusion_3(with_t5: bool = True, shifting: bool = False) -> DiffusionPipeline:
    shift = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15} if shifting else {"shift": 3.0}
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 16}
    dimensions = {"joint_attention_dim": 64, "caption_projection_dim": 32, "pooled_projection_dim": 64}
    heads = {"num_layers": 1, "num_attention_heads": 4, "attention_head_dim": 8}
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(**sizes, **dimensions, **heads),
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=autoencoder(4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip_text(transformers.CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(transformers.CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )


def flux(guidance: bool = True) -> DiffusionPipeline:
    shift = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15} if guidance else {"shift": 1.0}
    sizes = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "axes_dims_rope": (4, 4, 8)}
    dimensions = {"joint_attention_dim": 32, "pooled_projection_dim": 32}
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(**HEADS, **sizes, **dimensions, guidance_embeds=guidance),
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip_text(transformers.CLIPTextModel),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )


def pixart(kind: type[DiffusionPipeline], sample_size: int, **config: object) -> DiffusionPipeline:
    """Of PixArt-α at a sample size of 128, the network is told the picture's size."""
    heads = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24}
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=autoencoder(4, scaling_factor=0.13025),
        transformer=diffusers.PixArtTransformer2DModel(**heads, caption_channels=32, sample_size=sample_size, **config),
        scheduler=DPMSolverMultistepScheduler(timestep_spacing="trailing"),
    )


MOMENTS = {"latents_mean": [-1.6, 1.1, 2.8, -0.7], "latents_std": [8.4, 5.9, 5.4, 5.9], "scaling_factor": 0.5}
FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    "SD": tiny_pipeline,
    "LCM": latent_consistency,
    "SDXL": stable_diffusion_xl,
    "SDXL of velocity": partial(stable_diffusion_xl, velocity=True),
    "SDXL with moments": partial(stable_diffusion_xl, **MOMENTS),  # as Playground's autoencoder has them
    "SD 3": stable_diffusion_3,
    "SD 3 without T5": partial(stable_diffusion_3, with_t5=False),
    "SD 3 shifting": partial(stable_diffusion_3, shifting=True),
    "FLUX.1 dev": flux,
    "FLUX.1 schnell": partial(flux, guidance=False),
    **LANGUAGE,
    "PixArt-Σ": partial(pixart, diffusers.PixArtSigmaPipeline, 32, use_additional_conditions=False),
    "PixArt-α": partial(pixart, diffusers.PixArtAlphaPipeline, 128),
}


def make(family: str) -> DiffusionPipeline:
    """The family's tiny pipeline, the same at every call."""
    torch.manual_seed(0)
    return prepared(FAMILIES[family]())
