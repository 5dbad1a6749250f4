"""Qwen-Image: a rectified flow over packed latents, with a language model for the prompt and a video autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, even_flow_schedule

if TYPE_CHECKING:
    from diffusers import ModelMixin

LONGEST = 512  # tokens of a prompt that the pipeline's call keeps; its encode_prompt alone would keep more


class QwenImage(Adapter):
    """Adapter of QwenImagePipeline, whose guidance keeps the length of every token's velocity."""

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`."""
        return Geometry.of_packed(self.pipeline)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`; prompts of different lengths are padded to the longest, under a mask."""
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
        """See :meth:`Adapter.evaluate`."""
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
        """See :meth:`Adapter.combine`; each token is as long as without guidance."""
        guided = super().combine(without, given, guidance_scale)
        return guided * (token_lengths(given) / token_lengths(guided))

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """See :meth:`Adapter.decode`; the pipeline's own decoder makes a video of one frame."""
        if decoder is not self.pipeline.vae:
            return super().decode(decoder, latents)
        mean, std = (
            latents.new_tensor(moment).view(1, -1, 1, 1)
            for moment in (decoder.config.latents_mean, decoder.config.latents_std)
        )
        return decoder.decode((latents * std + mean).unsqueeze(2).to(decoder.dtype)).sample.squeeze(2)

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`."""
        shift = dynamic_shift(self.pipeline.scheduler, self.latent_shape[1] * self.latent_shape[2] // 4)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)


def token_lengths(x: Tensor) -> Tensor:
    """The Euclidean length (B, 1, H, W) of the token, a 2 x 2 patch, that each latent in (B, C, H, W) is packed in."""
    lengths = functional.lp_pool2d(torch.linalg.vector_norm(x, dim=1, keepdim=True), 2, 2)
    return lengths.repeat_interleave(2, 2).repeat_interleave(2, 3)
