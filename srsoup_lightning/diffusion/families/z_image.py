"""Z-Image: a rectified flow whose transformer reads picture and prompt as one sequence, of any length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry
from srsoup_lightning.diffusion.schedule import Schedule, dynamic_shift, even_flow_schedule

NATIVE = 1024  # pixels that the pipeline draws where it isn't told how many; no config says so


class ZImage(Adapter):
    """Adapter of ZImagePipeline: Z-Image, and Turbo, which needs no guidance. Its guidance scale counts from 0."""

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`."""
        factor = self.pipeline.vae_scale_factor
        return Geometry(self.pipeline.transformer.config.in_channels, factor, 2 * factor, NATIVE)

    def guides(self, guidance_scale: float) -> bool:
        """See :meth:`Adapter.guides`."""
        return guidance_scale > 0

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`; the lengths stay in main memory, where they cut the padding off again."""
        given, without = self.pipeline.encode_prompt(
            prompt, self.device, do_classifier_free_guidance=guided, negative_prompt=negative_prompt
        )
        rows = [*without, *given]
        return {"states": pad_sequence(rows, batch_first=True), "lengths": torch.tensor([len(row) for row in rows])}

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`Adapter.evaluate`; the network is told the time from noise to picture, and answers for it."""
        lengths = condition["lengths"].tolist()
        pictures = self.pipeline.transformer(
            list(x.unsqueeze(2)),
            x.new_full((len(x),), (1000 - time) / 1000, dtype=torch.float32),
            [states[:length] for states, length in zip(condition["states"], lengths, strict=True)],
        ).sample
        return -torch.stack(pictures).squeeze(2)

    def combine(self, without: Tensor, given: Tensor, guidance_scale: float) -> Tensor:
        """See :meth:`Adapter.combine`; a scale is one less than usual here, and 0 is without guidance."""
        return super().combine(without, given, 1 + guidance_scale)

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`."""
        shift = dynamic_shift(self.pipeline.scheduler, self.latent_shape[1] * self.latent_shape[2] // 4)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)
