"""Stable Diffusion 3 and 3.5: a rectified flow with a transformer, two CLIP text encoders and an optional T5."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry, condition_of
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, flow_schedule


class StableDiffusion3(Adapter):
    """Adapter of StableDiffusion3Pipeline, with or without its third text encoder."""

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`."""
        return Geometry.of_patches(self.pipeline)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`."""
        states, negative_states, pooled, negative_pooled = self.pipeline.encode_prompt(
            prompt,
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative_prompt,
        )
        return condition_of(
            guided, encoder_hidden_states=(negative_states, states), pooled_projections=(negative_pooled, pooled)
        )

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`Adapter.evaluate`."""
        times = torch.full((len(x),), time, device=x.device)  # float32: bfloat16 can't tell 995 from 997
        return self.pipeline.transformer(x, timestep=times, **condition).sample

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`."""
        scheduler, shift = self.pipeline.scheduler, {}
        if scheduler.config.get("use_dynamic_shifting"):
            patch = self.pipeline.transformer.config.patch_size
            tokens = (self.latent_shape[1] // patch) * (self.latent_shape[2] // patch)
            shift = {"mu": dynamic_shift(scheduler, tokens, max_shift=1.16)}
        return flow_schedule(
            scheduler, num_inference_steps, eta, self.transition, num_inference_steps=num_inference_steps, **shift
        )
