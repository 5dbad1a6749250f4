"""Stable Diffusion 3 and 3.5: a rectified flow with a transformer, two CLIP text encoders and an optional T5."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition, condition_of
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, flow_schedule


class StableDiffusion3(PipelineBackbone):
    """Backbone of Stable Diffusion 3 and 3.5, with or without the third text encoder."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        return Geometry.of_patches(self.pipeline)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`."""
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
        """See :meth:`PipelineBackbone.evaluate`."""
        times = torch.full(
            (len(x),), time, dtype=torch.float32, device=x.device
        )  # 995 and 997 are the same in bfloat16
        return self.pipeline.transformer(x, timestep=times, **condition).sample

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        scheduler, shift = self.pipeline.scheduler, {}
        if scheduler.config.get("use_dynamic_shifting"):
            patch = self.pipeline.transformer.config.patch_size
            tokens = (self.latent_shape[1] // patch) * (self.latent_shape[2] // patch)
            shift = {"mu": dynamic_shift(scheduler, tokens, max_shift=1.16)}
        return flow_schedule(
            scheduler, num_inference_steps, eta, self.transition, num_inference_steps=num_inference_steps, **shift
        )
