"""Architectures of published models: the numbers in their configs, and the lengths of what their networks read.

They are those of the config files of the hub ids, as public sources have them, or the defaults of diffusers' classes
where these have the numbers of the published model. Nothing was downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Network = tuple[str, Mapping[str, Any]]
"""Class in diffusers or transformers, and its options."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A published model.

    Args:
        model: Hub id.
        pipeline: Class of its pipeline.
        networks: Networks of the pipeline by component.
        condition: Shape of each input of the denoising network from a prompt, for one prompt.
        pixels: Height and width of a picture.
        steps: Denoising steps.
        soup: Steps of the soup phase; 40 % of the steps, as in the paper, unless a builtin config has another number.
        guidance_scale: Guidance scale.
    """

    model: str
    pipeline: str
    networks: Mapping[str, Network]
    condition: Mapping[str, tuple[int, ...]]
    pixels: int
    steps: int = 50
    soup: int = 20
    guidance_scale: float = 5.0


STAGES = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
VAE: Network = ("AutoencoderKL", STAGES | {"latent_channels": 4, "scaling_factor": 0.18215})
PLAIN = {"use_quant_conv": False, "use_post_quant_conv": False}
VAE_16: Network = ("AutoencoderKL", STAGES | PLAIN | {"latent_channels": 16, "shift_factor": 0.1159})
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_L |= {"projection_dim": 768}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
CLIP_G |= {"projection_dim": 1280, "hidden_act": "gelu"}
T5: Network = (
    "T5EncoderModel",
    {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    | {"feed_forward_proj": "gated-gelu"},
)
QWEN_3_4B: Network = (
    "Qwen3Model",
    {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "head_dim": 128},
)
QWEN_VL_7B: Network = (
    "Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
        | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
)
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
MEDIUM = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
MEDIUM |= {"dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm"}
LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
LARGE |= {"qk_norm": "rms_norm"}
SD3_TEXTS: dict[str, Network] = {
    "text_encoder": ("CLIPTextModelWithProjection", CLIP_L),
    "text_encoder_2": ("CLIPTextModelWithProjection", CLIP_G),
    "text_encoder_3": T5,
}
SD3_CONDITION = {"encoder_hidden_states": (333, 4096), "pooled_projections": (2048,)}
DC_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
DC_AE: Network = (
    "AutoencoderDC",
    {"encoder_block_types": DC_BLOCKS, "decoder_block_types": DC_BLOCKS, "scaling_factor": 0.41407}
    | {"upsample_block_type": "interpolate", "downsample_block_type": "Conv"},
)
KLEIN = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}

ARCHITECTURES = (
    Architecture(
        model="stable-diffusion-v1-5/stable-diffusion-v1-5",
        pipeline="StableDiffusionPipeline",
        networks={
            "unet": ("UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768}),
            "vae": VAE,
            "text_encoder": ("CLIPTextModel", CLIP_L),
        },
        condition={"encoder_hidden_states": (77, 768)},
        pixels=512,
    ),
    Architecture(
        model="stabilityai/stable-diffusion-xl-base-1.0",
        pipeline="StableDiffusionXLPipeline",
        networks={
            "unet": ("UNet2DConditionModel", SDXL | {"sample_size": 128}),
            "vae": VAE,
            "text_encoder": ("CLIPTextModel", CLIP_L),
            "text_encoder_2": ("CLIPTextModelWithProjection", CLIP_G),
        },
        condition={"encoder_hidden_states": (77, 2048), "text_embeds": (1280,), "time_ids": (6,)},
        pixels=512,
    ),
    Architecture(
        model="stabilityai/stable-diffusion-3.5-medium",
        pipeline="StableDiffusion3Pipeline",
        networks={"transformer": ("SD3Transformer2DModel", MEDIUM), "vae": VAE_16, **SD3_TEXTS},
        condition=SD3_CONDITION,
        pixels=512,
        soup=10,
    ),
    Architecture(
        model="stabilityai/stable-diffusion-3.5-large",
        pipeline="StableDiffusion3Pipeline",
        networks={"transformer": ("SD3Transformer2DModel", LARGE), "vae": VAE_16, **SD3_TEXTS},
        condition=SD3_CONDITION,
        pixels=1024,
    ),
    Architecture(
        model="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        pipeline="PixArtSigmaPipeline",
        networks={
            "transformer": (
                "PixArtTransformer2DModel",
                {"interpolation_scale": 2, "use_additional_conditions": False, "caption_channels": 4096},
            ),
            "vae": VAE,
            "text_encoder": T5,
        },
        condition={"encoder_hidden_states": (300, 4096), "encoder_attention_mask": (300,)},
        pixels=1024,
    ),
    Architecture(
        model="Efficient-Large-Model/Sana_1600M_1024px_diffusers",
        pipeline="SanaPipeline",
        networks={"transformer": ("SanaTransformer2DModel", {}), "vae": DC_AE, "text_encoder": ("Gemma2Model", {})},
        condition={"encoder_hidden_states": (300, 2304), "encoder_attention_mask": (300,)},
        pixels=1024,
    ),
    Architecture(
        model="black-forest-labs/FLUX.1-dev",
        pipeline="FluxPipeline",
        networks={
            "transformer": ("FluxTransformer2DModel", {"guidance_embeds": True}),
            "vae": VAE_16,
            "text_encoder": ("CLIPTextModel", CLIP_L),
            "text_encoder_2": T5,
        },
        condition={"encoder_hidden_states": (512, 4096), "pooled_projections": (768,), "guidance": ()},
        pixels=1024,
    ),
    Architecture(
        model="black-forest-labs/FLUX.2-klein-4B",
        pipeline="Flux2KleinPipeline",
        networks={
            "transformer": ("Flux2Transformer2DModel", KLEIN | {"guidance_embeds": False}),
            "vae": ("AutoencoderKLFlux2", {}),
            "text_encoder": QWEN_3_4B,
        },
        condition={"encoder_hidden_states": (512, 7680), "txt_ids": (512, 4)},
        pixels=1024,
        steps=4,
        soup=2,
        guidance_scale=1.0,
    ),
    Architecture(
        model="black-forest-labs/FLUX.2-dev",
        pipeline="Flux2Pipeline",
        networks={
            "transformer": ("Flux2Transformer2DModel", {}),
            "vae": ("AutoencoderKLFlux2", {}),
            "text_encoder": ("Mistral3ForConditionalGeneration", {"tie_word_embeddings": False}),
        },
        condition={"encoder_hidden_states": (512, 15360), "txt_ids": (512, 4), "guidance": ()},
        pixels=1024,
    ),
    Architecture(
        model="Qwen/Qwen-Image",
        pipeline="QwenImagePipeline",
        networks={
            "transformer": ("QwenImageTransformer2DModel", {}),
            "vae": ("AutoencoderKLQwenImage", {}),
            "text_encoder": QWEN_VL_7B,
        },
        condition={"encoder_hidden_states": (64, 3584)},
        pixels=1024,
    ),
    Architecture(
        model="Tongyi-MAI/Z-Image-Turbo",
        pipeline="ZImagePipeline",
        networks={"transformer": ("ZImageTransformer2DModel", {}), "vae": VAE_16, "text_encoder": QWEN_3_4B},
        condition={"states": (64, 2560), "lengths": ()},
        pixels=1024,
        steps=9,
        soup=4,
        guidance_scale=0.0,
    ),
)
