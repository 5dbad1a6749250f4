"""Z-Image: a rectified flow whose transformer reads image and prompt as one sequence of any length."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, even_flow_schedule

NATIVE = 1024  # pixels of the side that the pipeline draws by default; no config has it


class ZImage(PipelineBackbone):
    """Backbone of Z-Image, and of its Turbo, which needs no guidance. At guidance scale 0 there is no guidance."""

    pipelines: ClassVar[tuple[str, ...]] = ("ZImagePipeline",)

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`."""
        factor = self.pipeline.vae_scale_factor
        return Geometry(self.pipeline.transformer.config.in_channels, factor, 2 * factor, NATIVE)

    def guides(self, guidance_scale: float) -> bool:
        """See :meth:`PipelineBackbone.guides`."""
        return guidance_scale > 0

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`; the lengths are on the CPU, where they cut the padding off."""
        given, without = self.pipeline.encode_prompt(
            prompt, self.device, do_classifier_free_guidance=guided, negative_prompt=negative_prompt
        )
        rows = [*without, *given]
        return {
            "states": pad_sequence(rows, batch_first=True),
            "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64),
        }

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`PipelineBackbone.evaluate`; its time runs from noise to image, and so does its velocity."""
        lengths = condition["lengths"].tolist()
        pictures = self.pipeline.transformer(
            list(x.unsqueeze(2)),
            x.new_full((len(x),), (1000 - time) / 1000, dtype=torch.float32),
            [states[:length] for states, length in zip(condition["states"], lengths, strict=True)],
        ).sample
        return -torch.stack(pictures).squeeze(2)

    def combine(self, without: Tensor, given: Tensor, guidance_scale: float) -> Tensor:
        """See :meth:`PipelineBackbone.combine`; a scale of 0 here is the usual scale of 1."""
        return super().combine(without, given, 1 + guidance_scale)

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        shift = dynamic_shift(self.pipeline.scheduler, self.latent_shape[1] * self.latent_shape[2] // 4)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)
