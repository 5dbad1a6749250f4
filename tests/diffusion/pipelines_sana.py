"""Tiny Sana, with random weights, in the format of the real one."""

from __future__ import annotations

from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    SchedulerMixin,
)
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")


def gemma_tokenizer() -> GemmaTokenizer:
    """A letter a token, whatever else is unknown."""
    return GemmaTokenizer({token: index for index, token in enumerate((*SPECIAL, "▁", *"abcdefghijklmnopqrstuvwxyz"))})


def gemma() -> Gemma2Model:
    return Gemma2Model(
        Gemma2Config(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )


def deep_autoencoder() -> AutoencoderDC:
    """Two pixels a latent."""
    blocks = ("ResBlock", "EfficientViTBlock")
    each = {
        "block_types": blocks,
        "block_out_channels": (8, 8),
        "qkv_multiscales": ((), (5,)),
        "layers_per_block": (1, 1),
    }
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        scaling_factor=0.41407,
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in each.items()},
    )


def sana(scheduler: SchedulerMixin | None = None, **config: object) -> SanaPipeline:
    """Without a scheduler, that of Sana 1.0 and 1.5."""
    solver = DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    return SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(),
        vae=deep_autoencoder(),
        transformer=SanaTransformer2DModel(
            **{
                "in_channels": 4,
                "out_channels": 4,
                "num_attention_heads": 2,
                "attention_head_dim": 8,
                "num_layers": 1,
                "num_cross_attention_heads": 2,
                "cross_attention_head_dim": 8,
                "cross_attention_dim": 16,
                "caption_channels": 16,
                "sample_size": 16,
                **config,
            }
        ),
        scheduler=scheduler or solver,
    )


def sana_of_euler() -> SanaPipeline:
    """Told its times on another scale, and with a variance beside the velocity."""
    return sana(FlowMatchEulerDiscreteScheduler(shift=3.0), out_channels=8, timestep_scale=0.5)
