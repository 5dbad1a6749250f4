"""Sana: a rectified flow with a linear transformer over few, deep latents, and a language model for a text encoder."""

from __future__ import annotations

from inspect import signature

import torch
from torch import Tensor

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry, condition_of
from srsoup_lightning.diffusion.schedule import Schedule, flow_schedule


class Sana(Adapter):
    """Adapter of SanaPipeline.

    It draws the size asked for itself, not the nearest one that the model was trained on.
    """

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`."""
        return Geometry.of_patches(self.pipeline)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`; the prompt follows the pipeline's own instruction to its language model."""
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
        """See :meth:`Adapter.evaluate`; of a network that learned a variance too, the velocity."""
        transformer = self.pipeline.transformer
        # In float32 whatever the network's precision: bfloat16 can't tell 995 from 997.
        times = torch.full((len(x),), time * transformer.config.timestep_scale, device=x.device)
        return transformer(x, timestep=times, **condition).sample[:, : x.shape[1]]

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`; of a multistep solver, its times."""
        return flow_schedule(
            self.pipeline.scheduler,
            num_inference_steps,
            eta,
            self.transition,
            num_inference_steps=num_inference_steps,
        )
