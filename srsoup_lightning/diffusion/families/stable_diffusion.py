"""Stable Diffusion 1.x and 2.x and latent consistency models of their size: a UNet and one CLIP text encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry, condition_of
from srsoup_lightning.diffusion.schedule import Schedule, diffusion_schedule


class StableDiffusion(Adapter):
    """Adapter of StableDiffusionPipeline and LatentConsistencyModelPipeline, whatever their UNet predicts."""

    @property
    def distilled(self) -> bool:
        """See :attr:`Adapter.distilled`; a latent consistency model is, unless it is a LoRA over another model."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`."""
        unet, factor = self.pipeline.unet.config, self.pipeline.vae_scale_factor
        multiple = factor * 2 ** (len(unet.block_out_channels) - 1)
        return Geometry(unet.in_channels, factor, multiple, unet.sample_size * factor)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`."""
        positive, negative = self.pipeline.encode_prompt(prompt, self.device, 1, guided, negative_prompt)
        condition = condition_of(guided, encoder_hidden_states=(negative, positive))
        return condition | guidance_embedding(self, guidance_scale)

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`Adapter.evaluate`."""
        return self.pipeline.unet(x, time, **condition).sample

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`."""
        return diffusion_schedule(self.pipeline.scheduler, num_inference_steps, eta)


def guidance_embedding(adapter: Adapter, guidance_scale: float) -> Condition:
    """What a distilled UNet is told of the guidance scale, {"timestep_cond": (1, width)}; nothing to any other."""
    if not adapter.distilled:
        return {}
    width = adapter.pipeline.unet.config.time_cond_proj_dim
    embedding = adapter.pipeline.get_guidance_scale_embedding(torch.tensor([guidance_scale - 1.0]), width)
    return {"timestep_cond": embedding.to(adapter.device)}
