"""Tiny pipelines with random weights, one of each family, in the format of the real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from tests.diffusion.conftest import SCHEDULE, autoencoder, clip_text, clip_tokenizer, heavy, tiny_pipeline
from tests.diffusion.pipelines_recent import RECENT
from tests.diffusion.pipelines_sana import sana, sana_of_euler


def prepared(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """In eval mode, silent, and with text encoders whose prompts matter."""
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            part.eval()
            if name.startswith("text_encoder"):
                heavy(part, std=0.3)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def t5_tokenizer() -> T5TokenizerFast:
    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        *(f"▁{word}" for word in ("a", "cat", "dog", "photo")),
        "▁",
        *"abcdefghijklmnop",
    ]
    return T5TokenizerFast(vocab=[(piece, -float(rank)) for rank, piece in enumerate(pieces)], extra_ids=0)


def t5(width: int = 32) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    )


def sdxl_unet(**config: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        **config,
    )


def latent_consistency() -> LatentConsistencyModelPipeline:
    plain = tiny_pipeline()
    given = {name: value for name, value in plain.unet.config.items() if not name.startswith("_")}
    unet = UNet2DConditionModel(**given | {"time_cond_proj_dim": 16})
    parts = {**plain.components, "unet": unet, "scheduler": LCMScheduler(**SCHEDULE)}
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=autoencoder(4, scaling_factor=0.13025),
        text_encoder=clip_text(CLIPTextModel),
        text_encoder_2=clip_text(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=sdxl_unet(),
        scheduler=EulerDiscreteScheduler(**SCHEDULE, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def velocity_stable_diffusion_xl() -> StableDiffusionXLPipeline:
    """Of zero terminal SNR: the first level has no signal."""
    pipeline = stable_diffusion_xl()
    pipeline.scheduler = EulerDiscreteScheduler(
        **SCHEDULE, timestep_spacing="trailing", rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    return pipeline


def playground() -> StableDiffusionXLPipeline:
    """Latents standardised by the autoencoder's own moments."""
    pipeline = stable_diffusion_xl()
    moments = {"latents_mean": [-1.6, 1.1, 2.8, -0.7], "latents_std": [8.4, 5.9, 5.4, 5.9], "scaling_factor": 0.5}
    pipeline.vae = autoencoder(4, **moments)
    return pipeline


def stable_diffusion_3(t5_too: bool = True) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip_text(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(64) if t5_too else None,
        tokenizer_3=t5_tokenizer() if t5_too else None,
    )


def shifting_stable_diffusion_3() -> StableDiffusion3Pipeline:
    pipeline = stable_diffusion_3()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    return pipeline


def flux(guidance: bool = True) -> FluxPipeline:
    shift = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15} if guidance else {"shift": 1.0}
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip_text(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )


def pixart(kind: type[DiffusionPipeline], sample_size: int) -> DiffusionPipeline:
    """Of PixArt-α at a sample size of 128, the network is told the picture's size."""
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=autoencoder(4, scaling_factor=0.13025),
        transformer=PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            cross_attention_dim=24,
            caption_channels=32,
            sample_size=sample_size,
            use_additional_conditions=None if kind is PixArtAlphaPipeline else False,
        ),
        scheduler=DPMSolverMultistepScheduler(timestep_spacing="trailing"),
    )


FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    "SD": tiny_pipeline,
    "LCM": latent_consistency,
    "SDXL": stable_diffusion_xl,
    "SDXL of velocity": velocity_stable_diffusion_xl,
    "SDXL with moments": playground,
    "SD 3": stable_diffusion_3,
    "SD 3 without T5": lambda: stable_diffusion_3(t5_too=False),
    "SD 3 shifting": shifting_stable_diffusion_3,
    "FLUX.1 dev": flux,
    "FLUX.1 schnell": lambda: flux(guidance=False),
    **RECENT,
    "Sana": sana,
    "Sana of Euler": sana_of_euler,
    "PixArt-Σ": lambda: pixart(PixArtSigmaPipeline, 32),
    "PixArt-α": lambda: pixart(PixArtAlphaPipeline, 128),
}


def make(family: str) -> DiffusionPipeline:
    """The family's tiny pipeline, the same at every call."""
    torch.manual_seed(0)
    return prepared(FAMILIES[family]())
