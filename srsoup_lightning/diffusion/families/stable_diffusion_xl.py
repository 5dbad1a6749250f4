"""Stable Diffusion XL: a UNet and two CLIP text encoders, with the size of the image as an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition, condition_of
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion, guidance_embedding

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


class StableDiffusionXL(StableDiffusion):
    """Backbone of Stable Diffusion XL, also of Turbo and of consistency models.

    An autoencoder whose config says that it overflows in float16 runs in float32.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)

    def __init__(self, pipeline: StableDiffusionXLPipeline, **options: Any) -> None:  # noqa: ANN401
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            pipeline.vae.float()
        super().__init__(pipeline, **options)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`.

        Without a negative prompt, guidance leads away from the pipeline's own default.
        """
        states, negative_states, pooled, negative_pooled = self.pipeline.encode_prompt(
            prompt, device=self.device, do_classifier_free_guidance=guided, negative_prompt=negative_prompt or None
        )
        condition = condition_of(
            guided, encoder_hidden_states=(negative_states, states), text_embeds=(negative_pooled, pooled)
        )
        sizes = {"time_ids": self._sizes(condition["text_embeds"])}
        return condition | sizes | guidance_embedding(self, guidance_scale)

    def _sizes(self, pooled: Tensor) -> Tensor:
        """Original size, crop and target size (rows, 6) in pixels: the size that is drawn, without a crop."""
        size = tuple(side * self.geometry.factor for side in self.latent_shape[1:])
        ids = self.pipeline._get_add_time_ids(
            size, (0, 0), size, dtype=pooled.dtype, text_encoder_projection_dim=pooled.shape[1]
        )
        return ids.to(self.device).expand(len(pooled), -1)

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`."""
        added = {name: condition[name] for name in ("text_embeds", "time_ids")}
        others = {name: each for name, each in condition.items() if name not in added}
        return self.pipeline.unet(x, time, added_cond_kwargs=added, **others).sample
