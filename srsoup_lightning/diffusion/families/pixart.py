"""PixArt-α and PixArt-Σ: a diffusion transformer whose tokens attend to the states of a T5."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition, condition_of
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, diffusion_schedule


class PixArt(PipelineBackbone):
    """Backbone of PixArt-α and PixArt-Σ.

    It draws the size that the user asks for, not the nearest one that the model was trained on.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        return Geometry.of_patches(self.pipeline)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`.

        Prompts are cleaned as in the pipeline, where the packages for it are installed.
        """
        from diffusers.utils import is_bs4_available, is_ftfy_available

        states, mask, negative_states, negative_mask = self.pipeline.encode_prompt(
            prompt,
            guided,
            negative_prompt,
            device=self.device,
            clean_caption=is_bs4_available() and is_ftfy_available(),
        )
        return condition_of(
            guided, encoder_hidden_states=(negative_states, states), encoder_attention_mask=(negative_mask, mask)
        )

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`; a learned variance is dropped."""
        output = self.pipeline.transformer(
            x,
            timestep=torch.full((len(x),), time, dtype=torch.int64, device=x.device),
            added_cond_kwargs=self._size(x),
            **condition,
        )
        return output.sample[:, : x.shape[1]]

    def _size(self, x: Tensor) -> dict[str, Tensor | None]:
        """Height and width (B, 2) in pixels and their ratio (B, 1), where they are inputs of the network."""
        if not self.pipeline.transformer.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.pipeline.vae_scale_factor for side in x.shape[-2:])
        return {
            "resolution": x.new_tensor([[height, width]]).expand(len(x), -1),
            "aspect_ratio": x.new_tensor([[height / width]]).expand(len(x), -1),
        }

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        return diffusion_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition)
