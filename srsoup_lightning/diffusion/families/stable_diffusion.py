"""Stable Diffusion 1.x and 2.x and latent consistency models of their size: a UNet and one CLIP text encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition, condition_of
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, diffusion_schedule


class StableDiffusion(PipelineBackbone):
    """Backbone of Stable Diffusion and latent consistency models, whose UNet predicts noise, velocity or the sample."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")

    @property
    def distilled(self) -> bool:
        """See :attr:`PipelineBackbone.distilled`; true of a latent consistency model that is no LoRA over another."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        unet, factor = self.pipeline.unet.config, self.pipeline.vae_scale_factor
        return Geometry(unet.in_channels, factor, factor, unet.sample_size * factor)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`."""
        positive, negative = self.pipeline.encode_prompt(prompt, self.device, 1, guided, negative_prompt)
        condition = condition_of(guided, encoder_hidden_states=(negative, positive))
        return condition | guidance_embedding(self, guidance_scale)

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`."""
        return self.pipeline.unet(x, time, **condition).sample

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        return diffusion_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition)


def guidance_embedding(backbone: PipelineBackbone, guidance_scale: float) -> Condition:
    """Guidance scale as an input of a distilled UNet, {"timestep_cond": (1, width)}; empty for any other UNet."""
    if not backbone.distilled:
        return {}
    width = backbone.pipeline.unet.config.time_cond_proj_dim
    embedding = backbone.pipeline.get_guidance_scale_embedding(
        torch.tensor([guidance_scale - 1.0], dtype=torch.float32), width
    )
    return {"timestep_cond": embedding.to(backbone.device)}
