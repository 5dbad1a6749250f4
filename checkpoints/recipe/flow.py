"""The SD3Transformer2DModel of tiny-animals-flow, trained on cached latents and the text tower of tiny-clip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.models.attention_processor import Attention
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor, CLIPTextModelWithProjection

from checkpoints.recipe.pipeline import PipelineTraining

HEADS, HEAD_WIDTH, BLOCKS = 4, 32, 8
SECOND_ENCODER_LAYERS = 1
MOST_ZEROS = 256  # zero states that diffusers puts in place of a third text encoder's, by default


def build_transformer(text_width: int = 128) -> SD3Transformer2DModel:
    """An untrained transformer for 4 x 16 x 16 latents, in patches of 2 x 2; 4.7 million parameters.

    Args:
        text_width: Width of the states and of the pooled embedding of each of the two text encoders.
    """
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=BLOCKS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        caption_projection_dim=HEADS * HEAD_WIDTH,
        joint_attention_dim=2 * text_width,
        pooled_projection_dim=2 * text_width,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )


def build_text_encoder(clip: CLIPModel, layers: int) -> CLIPTextModelWithProjection:
    """The first layers of the text tower of `clip`, with its projection, frozen."""
    config = type(clip.config.text_config)(
        **clip.config.text_config.to_dict()
        | {"num_hidden_layers": layers, "projection_dim": clip.config.projection_dim}
    )
    encoder = CLIPTextModelWithProjection(config)
    have = {name.removeprefix("text_model."): value for name, value in clip.text_model.state_dict().items()}
    have["text_projection.weight"] = clip.text_projection.weight.detach()
    encoder.load_state_dict({name: have[name.removeprefix("text_model.")] for name in encoder.state_dict()})
    return encoder.eval().requires_grad_(False)


def assemble(
    transformer: SD3Transformer2DModel, autoencoder: AutoencoderKL, clip: CLIPModel, processor: CLIPProcessor
) -> StableDiffusion3Pipeline:
    """A pipeline of diffusers, made of these components, without a third text encoder."""
    autoencoder.register_to_config(shift_factor=0.0)  # the pipeline of Stable Diffusion 3 needs a number
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder,
        text_encoder=build_text_encoder(clip, clip.config.text_config.num_hidden_layers),
        tokenizer=processor.tokenizer,
        text_encoder_2=build_text_encoder(clip, SECOND_ENCODER_LAYERS),
        tokenizer_2=processor.tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class WeightedPadding:
    """Joint attention of image and text, in which the last state of the text stands for many equal ones.

    Without a third text encoder, diffusers appends 256 zero states to the text. They are equal in every block. So one
    of them with log(256) added to its attention logits gives the same output without the cost of the others.

    Attributes:
        logarithm: Logarithm of the number of states that the last one stands for, a scalar.
    """

    def __init__(self) -> None:
        self.logarithm = torch.zeros(())

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of the image (B, N, width) and of the text (B, M, width); None for an unused text."""

        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

        a, image, text = attention, hidden_states, encoder_hidden_states
        query = torch.cat([a.norm_q(heads(a.to_q(image))), a.norm_added_q(heads(a.add_q_proj(text)))], dim=2)
        key = torch.cat([a.norm_k(heads(a.to_k(image))), a.norm_added_k(heads(a.add_k_proj(text)))], dim=2)
        value = torch.cat([heads(a.to_v(image)), heads(a.add_v_proj(text))], dim=2)
        bias = query.new_zeros(key.shape[2])
        bias[-1] = self.logarithm
        bias = bias.expand(query.shape[2], -1)
        merged = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        of_image, of_text = merged.split([image.shape[1], text.shape[1]], dim=1)
        return a.to_out[0](of_image), None if a.context_pre_only else a.to_add_out(of_text)


class FlowTraining(PipelineTraining):
    """Velocity of a rectified flow at logit-normal times.

    Esser et al. 2024, arXiv:2403.03206, section 3.1. The number of zero states after the text is drawn anew for each
    batch, evenly in its logarithm, so that the pipeline draws well with any `max_sequence_length`.
    """

    preview_options: ClassVar[dict[str, object]] = {"num_inference_steps": 20, "max_sequence_length": 1}

    def __init__(self, pipeline: StableDiffusion3Pipeline, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__(pipeline, pipeline.transformer, learning_rate, steps, folder)
        self.padding = WeightedPadding()

    @classmethod
    def begin(
        cls,
        autoencoder: AutoencoderKL,
        clip: CLIPModel,
        processor: CLIPProcessor,
        learning_rate: float,
        steps: int,
        folder: Path,
    ) -> FlowTraining:
        return cls(assemble(build_transformer(), autoencoder, clip, processor), learning_rate, steps, folder)

    def on_fit_start(self) -> None:
        self.processors = dict(self.denoiser.attn_processors)
        self.denoiser.set_attn_processor(self.padding)

    def on_fit_end(self) -> None:
        self.denoiser.set_attn_processor(self.processors)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        latents, tokens = self.latents_and_tokens(batch)
        states, pooled = self.condition(tokens)
        self.padding.logarithm.uniform_(0, math.log(MOST_ZEROS))
        time = torch.randn(len(latents), 1, 1, 1, device=self.device).sigmoid()
        noise = torch.randn_like(latents)
        velocity = self.denoiser((1 - time) * latents + time * noise, states, pooled, 1000 * time.flatten()).sample
        loss = F.mse_loss(velocity, noise - latents)
        self.log("loss", loss)
        return loss

    @torch.no_grad()
    def condition(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, tokens + 1, 256) of the text and one zero state, and its pooled embedding (B, 256)."""
        (pipeline,) = self.frozen
        both = [
            encoder(tokens, output_hidden_states=True) for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
        ]
        states = torch.cat([each.hidden_states[-2] for each in both], dim=-1)
        return F.pad(states, (0, 0, 0, 1)), torch.cat([each.text_embeds for each in both], dim=-1)

    def on_train_epoch_end(self) -> None:
        self.padding.logarithm.zero_()
        super().on_train_epoch_end()
