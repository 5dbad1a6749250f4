"""Tiny pipelines with random weights of the families whose text encoder is a language model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import diffusers
import transformers
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn

from tests.diffusion.conftest import BLOCKS, autoencoder, heavy

WIDTH = 32  # of a text encoder
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
TURN = "<|im_start|>{{ turn.role }}\n{{ turn.content if turn.content is string else turn.content[0].text }}<|im_end|>\n"
CHAT = f"{{% for turn in messages %}}{TURN}{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>{{% endif %}}"


def tokenizer() -> transformers.Qwen2Tokenizer:
    """A token a byte."""
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    made = transformers.Qwen2Tokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHAT
    return made


def language_model(layers: int) -> dict[str, object]:
    width = {"hidden_size": WIDTH, "intermediate_size": 32, "vocab_size": len(tokenizer())}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return width | heads | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)


def qwen_3(layers: int) -> transformers.Qwen3ForCausalLM:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**language_model(layers)))


def shifting(**config: object) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, **config)


def qwen_image() -> DiffusionPipeline:
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    text = language_model(2) | {"rope_parameters": rotary}
    sizes = {"in_channels": 16, "out_channels": 4, "num_layers": 2, "axes_dims_rope": (4, 4, 8)}
    blocks = {"base_dim": 16, "z_dim": 4, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [True]}
    moments = {"latents_mean": [-0.8, 0.1, 1.0, -0.2], "latents_std": [2.8, 1.5, 2.3, 2.7]}
    return diffusers.QwenImagePipeline(
        transformer=heavy(diffusers.QwenImageTransformer2DModel(**HEADS, **sizes, joint_attention_dim=WIDTH)),
        scheduler=shifting(max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02),
        vae=diffusers.AutoencoderKLQwenImage(**blocks, **moments),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(
            transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        ),
        tokenizer=tokenizer(),
    )


def z_image(shift: float | None = None) -> DiffusionPipeline:
    """The shift is Turbo's; None shifts by the picture's size."""
    layers = {"n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    axes = {"axes_dims": [4, 4, 8], "axes_lens": [1024, 32, 32]}
    transformer = diffusers.ZImageTransformer2DModel(**layers, **axes, in_channels=4, dim=32, cap_feat_dim=WIDTH)
    return diffusers.ZImagePipeline(
        transformer=heavy(transformer),
        scheduler=shifting(max_shift=1.15) if shift is None else FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=qwen_3(2),
        tokenizer=tokenizer(),
    )


def flux_2(guidance: bool) -> dict[str, object]:
    """The components that dev and klein share."""
    vae = diffusers.AutoencoderKLFlux2(**BLOCKS, latent_channels=4)
    nn.init.normal_(vae.bn.running_mean)
    nn.init.uniform_(vae.bn.running_var, 0.5, 4.0)
    sizes = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "axes_dims_rope": (4, 4, 4, 4)}
    transformer = diffusers.Flux2Transformer2DModel(
        **HEADS, **sizes, joint_attention_dim=3 * WIDTH, guidance_embeds=guidance
    )
    components = {"vae": vae, "transformer": heavy(transformer), "scheduler": shifting(max_shift=1.15)}
    return components | {"tokenizer": tokenizer()}


def flux_2_dev() -> DiffusionPipeline:
    """As many layers of text encoder as the pipeline reads from."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Mistral3Config(
        text_config=language_model(30) | {"model_type": "mistral"},
        vision_config=vision | {"model_type": "pixtral", "head_dim": 8},
    )
    text_encoder = transformers.Mistral3ForConditionalGeneration(config)
    return diffusers.Flux2Pipeline(text_encoder=text_encoder, **flux_2(guidance=True))


def flux_2_klein(distilled: bool) -> DiffusionPipeline:
    """As many layers of text encoder as the pipeline reads from."""
    return diffusers.Flux2KleinPipeline(text_encoder=qwen_3(27), is_distilled=distilled, **flux_2(guidance=False))


def gemma_tokenizer() -> transformers.GemmaTokenizer:
    """A letter a token; all else is unknown."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    return transformers.GemmaTokenizer({token: index for index, token in enumerate(tokens)})


def gemma() -> transformers.Gemma2Model:
    width = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return transformers.Gemma2Model(transformers.Gemma2Config(**width, **heads))


def deep_autoencoder() -> diffusers.AutoencoderDC:
    """Two pixels a latent."""
    blocks = {"block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8)}
    each = blocks | {"qkv_multiscales": ((), (5,)), "layers_per_block": (1, 1)}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in each.items()}
    return diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=2, scaling_factor=0.41407, **sides)


def sana(euler: bool = False) -> DiffusionPipeline:
    """Scheduled as Sana 1.0 and 1.5; of Euler, told its times on another scale, with a variance beside the velocity."""
    solver = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    heads = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16}
    config = {"out_channels": 8, "timestep_scale": 0.5} if euler else {"out_channels": 4}
    return diffusers.SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(),
        vae=deep_autoencoder(),
        transformer=diffusers.SanaTransformer2DModel(
            **heads, **cross, **config, in_channels=4, caption_channels=16, sample_size=16
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0) if euler else DPMSolverMultistepScheduler(**solver),
    )


RECENT: dict[str, Callable[[], DiffusionPipeline]] = {
    "FLUX.2 dev": flux_2_dev,
    "FLUX.2 klein": partial(flux_2_klein, distilled=True),
    "FLUX.2 klein base": partial(flux_2_klein, distilled=False),
    "Qwen-Image": qwen_image,
    "Z-Image": z_image,
    "Z-Image Turbo": partial(z_image, shift=3.0),
}
LANGUAGE = RECENT | {"Sana": sana, "Sana of Euler": partial(sana, euler=True)}
