"""Tiny pipelines with random weights of the families whose text encoder is a language model."""

from __future__ import annotations

from collections.abc import Callable

from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.diffusion.conftest import BLOCKS, autoencoder, heavy

WIDTH = 32  # of a text encoder
TURN = "<|im_start|>{{ turn.role }}\n{{ turn.content if turn.content is string else turn.content[0].text }}<|im_end|>\n"
CHAT = f"{{% for turn in messages %}}{TURN}{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>{{% endif %}}"


def tokenizer() -> Qwen2Tokenizer:
    """A token a byte."""
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    made = Qwen2Tokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHAT
    return made


def language_model(layers: int) -> dict[str, object]:
    return {
        "vocab_size": len(tokenizer()),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def shifting(**config: object) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, **config)


def qwen_image() -> QwenImagePipeline:
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return QwenImagePipeline(
        transformer=heavy(transformer),
        scheduler=shifting(max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02),
        vae=AutoencoderKLQwenImage(
            base_dim=16,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[-0.8, 0.1, 1.0, -0.2],
            latents_std=[2.8, 1.5, 2.3, 2.7],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=language_model(2) | {"rope_parameters": rotary}, vision_config=vision)
        ),
        tokenizer=tokenizer(),
    )


def z_image(shift: float | None = None) -> ZImagePipeline:
    """The shift is Turbo's; None shifts by the picture's size."""
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 4, 8],
        axes_lens=[1024, 32, 32],
    )
    return ZImagePipeline(
        transformer=heavy(transformer),
        scheduler=shifting(max_shift=1.15) if shift is None else FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=autoencoder(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**language_model(2))),
        tokenizer=tokenizer(),
    )


def flux_2(guidance: bool) -> dict[str, object]:
    """The parts that dev and klein share."""
    vae = AutoencoderKLFlux2(**BLOCKS, latent_channels=4)
    nn.init.normal_(vae.bn.running_mean)
    nn.init.uniform_(vae.bn.running_var, 0.5, 4.0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )
    return {
        "vae": vae,
        "transformer": heavy(transformer),
        "scheduler": shifting(max_shift=1.15),
        "tokenizer": tokenizer(),
    }


def flux_2_dev() -> Flux2Pipeline:
    """As many layers of text encoder as the pipeline reads from."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Mistral3Config(
        text_config=language_model(30) | {"model_type": "mistral"},
        vision_config=vision | {"model_type": "pixtral", "head_dim": 8},
    )
    return Flux2Pipeline(text_encoder=Mistral3ForConditionalGeneration(config), **flux_2(guidance=True))


def flux_2_klein(distilled: bool) -> Flux2KleinPipeline:
    """As many layers of text encoder as the pipeline reads from."""
    text_encoder = Qwen3ForCausalLM(Qwen3Config(**language_model(27)))
    return Flux2KleinPipeline(text_encoder=text_encoder, is_distilled=distilled, **flux_2(guidance=False))


RECENT: dict[str, Callable[[], DiffusionPipeline]] = {
    "FLUX.2 dev": flux_2_dev,
    "FLUX.2 klein": lambda: flux_2_klein(distilled=True),
    "FLUX.2 klein base": lambda: flux_2_klein(distilled=False),
    "Qwen-Image": qwen_image,
    "Z-Image": z_image,
    "Z-Image Turbo": lambda: z_image(shift=3.0),
}
