"""Sana: a rectified flow with a linear transformer over few, deep latents. A language model encodes the prompt."""

from __future__ import annotations

from inspect import signature
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition, condition_of
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, flow_schedule


class Sana(PipelineBackbone):
    """Backbone of Sana.

    It draws the size that the user asks for, not the nearest one that the model was trained on.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        return Geometry.of_patches(self.pipeline)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`; the prompt follows the pipeline's instruction."""
        instruction = signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default
        states, mask, negative_states, negative_mask = self.pipeline.encode_prompt(
            prompt,
            guided,
            negative_prompt=negative_prompt,
            device=self.device,
            complex_human_instruction=instruction,
        )
        return condition_of(
            guided, encoder_hidden_states=(negative_states, states), encoder_attention_mask=(negative_mask, mask)
        )

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`; a learned variance is dropped."""
        transformer = self.pipeline.transformer
        # Always float32: 995 and 997 are the same number in bfloat16.
        times = torch.full((len(x),), time * transformer.config.timestep_scale, dtype=torch.float32, device=x.device)
        return transformer(x, timestep=times, **condition).sample[:, : x.shape[1]]

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`; a multistep solver gives its times alone."""
        return flow_schedule(
            self.pipeline.scheduler,
            num_inference_steps,
            eta,
            self.transition,
            num_inference_steps=num_inference_steps,
        )
