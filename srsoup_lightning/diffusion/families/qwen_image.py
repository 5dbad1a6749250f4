"""Qwen-Image: a rectified flow over packed latents, with a language model and a video autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone, per_channel
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, even_flow_schedule

if TYPE_CHECKING:
    from diffusers import ModelMixin

LONGEST = 512  # tokens of a prompt in the pipeline's call; its encode_prompt alone would keep more


class QwenImage(PipelineBackbone):
    """Backbone of Qwen-Image. Its guidance keeps the length of every token's velocity."""

    pipelines: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        return Geometry.of_packed(self.pipeline)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`; a shorter prompt is padded, and masked there."""
        prompts = [negative_prompt, prompt] if guided else [prompt]
        rows = [
            self.pipeline.encode_prompt(each, self.device, max_sequence_length=LONGEST)[0].squeeze(0)
            for each in prompts
        ]
        condition = {"encoder_hidden_states": pad_sequence(rows, batch_first=True)}
        if len({len(row) for row in rows}) == 1:
            return condition
        mask = pad_sequence([row.new_ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return condition | {"encoder_hidden_states_mask": mask}

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`."""
        count, channels, height, width = x.shape
        tokens = self.pipeline.transformer(
            self.pipeline._pack_latents(x, count, channels, height, width),
            timestep=x.new_full((count,), time) / 1000,
            img_shapes=[[(1, height // 2, width // 2)]] * count,
            **condition,
        ).sample
        factor = self.pipeline.vae_scale_factor
        return self.pipeline._unpack_latents(tokens, height * factor, width * factor, factor).squeeze(2)

    def combine(self, without: Tensor, given: Tensor, guidance_scale: float) -> Tensor:
        """See :meth:`PipelineBackbone.combine`; each token keeps its length without guidance."""
        guided = super().combine(without, given, guidance_scale)
        return guided * (token_lengths(given) / token_lengths(guided))

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """See :meth:`PipelineBackbone.decode`; the pipeline's own decoder makes a video of one frame."""
        if decoder is not self.pipeline.vae:
            return super().decode(decoder, latents)
        mean, std = self._moments(latents)
        return decoder.decode((latents * std + mean).unsqueeze(2).to(decoder.dtype)).sample.squeeze(2)

    def encode(self, images: Tensor) -> Tensor:
        """See :meth:`PipelineBackbone.encode`; the autoencoder takes a video of one frame."""
        latents = self.posterior_mode(images.unsqueeze(2)).squeeze(2)
        mean, std = self._moments(latents)
        return (latents - mean) / std

    def _moments(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (1, C, 1, 1) of latents, from the config of the autoencoder."""
        config = self.pipeline.vae.config
        return per_channel(config.latents_mean, latents), per_channel(config.latents_std, latents)

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        shift = dynamic_shift(self.pipeline.scheduler, self.latent_shape[1] * self.latent_shape[2] // 4)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)


def token_lengths(x: Tensor) -> Tensor:
    """Euclidean length (B, 1, H, W) of the token, a patch of 2 x 2 latents, of each latent in (B, C, H, W)."""
    lengths = functional.lp_pool2d(torch.linalg.vector_norm(x, dim=1, keepdim=True), 2, 2)
    return lengths.repeat_interleave(2, 2).repeat_interleave(2, 3)
