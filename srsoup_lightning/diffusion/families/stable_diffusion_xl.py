"""Stable Diffusion XL: a UNet, two CLIP text encoders, and the picture's size among the conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from srsoup_lightning.diffusion.adapter import Condition, condition_of
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion, guidance_embedding

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


class StableDiffusionXL(StableDiffusion):
    """Adapter of StableDiffusionXLPipeline, Turbo and consistency models among them.

    An autoencoder that overflows in float16, as its config then says, is run in float32.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline, **options: Any) -> None:  # noqa: ANN401
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            pipeline.vae.float()
        super().__init__(pipeline, **options)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`; without a negative prompt, guidance leads away from what the pipeline says."""
        states, negative_states, pooled, negative_pooled = self.pipeline.encode_prompt(
            prompt, device=self.device, do_classifier_free_guidance=guided, negative_prompt=negative_prompt or None
        )
        condition = condition_of(
            guided, encoder_hidden_states=(negative_states, states), text_embeds=(negative_pooled, pooled)
        )
        sizes = {"time_ids": self._sizes(condition["text_embeds"])}
        return condition | sizes | guidance_embedding(self, guidance_scale)

    def _sizes(self, pooled: Tensor) -> Tensor:
        """Original size, crop and target size (rows, 6): those of a picture drawn for the size that it has."""
        size = tuple(side * self.geometry.factor for side in self.latent_shape[1:])
        ids = self.pipeline._get_add_time_ids(
            size, (0, 0), size, dtype=pooled.dtype, text_encoder_projection_dim=pooled.shape[1]
        )
        return ids.to(self.device).expand(len(pooled), -1)

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`Adapter.evaluate`."""
        added = {name: condition.pop(name) for name in ("text_embeds", "time_ids")}
        return self.pipeline.unet(x, time, added_cond_kwargs=added, **condition).sample
