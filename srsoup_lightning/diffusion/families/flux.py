"""FLUX.1: a rectified flow over packed latents. Its guidance is distilled into the network."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, even_flow_schedule


class Flux(PipelineBackbone):
    """Backbone of FLUX.1: dev, which takes the guidance scale as an input, and schnell, which has no guidance."""

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)

    @property
    def distilled(self) -> bool:
        """See :attr:`PipelineBackbone.distilled`."""
        return True

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        return Geometry.of_packed(self.pipeline)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`.

        Raises:
            ValueError: A guidance scale for a network that does not take one.
        """
        states, pooled, _ = self.pipeline.encode_prompt(prompt, None, device=self.device)
        condition = {"encoder_hidden_states": states, "pooled_projections": pooled}
        if self.pipeline.transformer.config.guidance_embeds:
            return condition | {"guidance": torch.tensor([guidance_scale], dtype=torch.float32, device=self.device)}
        if guidance_scale != 1:
            raise ValueError(f"guidance_scale is {guidance_scale}: this model was distilled to draw without, give 1")
        return condition

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`."""
        count, channels, height, width = x.shape
        tokens = self.pipeline.transformer(
            self.pipeline._pack_latents(x, count, channels, height, width),
            timestep=x.new_full((count,), time) / 1000,
            img_ids=self.pipeline._prepare_latent_image_ids(count, height // 2, width // 2, x.device, x.dtype),
            txt_ids=x.new_zeros(condition["encoder_hidden_states"].shape[1], 3),
            **condition,
        ).sample
        factor = self.pipeline.vae_scale_factor
        return self.pipeline._unpack_latents(tokens, height * factor, width * factor, factor)

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        shift = dynamic_shift(self.pipeline.scheduler, self.latent_shape[1] * self.latent_shape[2] // 4)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)
