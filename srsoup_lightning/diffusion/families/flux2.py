"""FLUX.2: a rectified flow over latents that are packed and standardised, told of the prompt by a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srsoup_lightning.diffusion.adapter import Adapter, Condition, Geometry
from srsoup_lightning.diffusion.schedule import Schedule, even_flow_schedule

if TYPE_CHECKING:
    from diffusers import ModelMixin


class Flux2Klein(Adapter):
    """Adapter of Flux2KleinPipeline: klein, distilled to draw without guidance, and its base, which is guided."""

    @property
    def distilled(self) -> bool:
        """See :attr:`Adapter.distilled`."""
        return self.pipeline.config.is_distilled

    @property
    def geometry(self) -> Geometry:
        """See :attr:`Adapter.geometry`; a latent is a 2 x 2 patch of the autoencoder's."""
        factor = self.pipeline.vae_scale_factor
        native = self.pipeline.default_sample_size * factor
        return Geometry(self.pipeline.transformer.config.in_channels, 2 * factor, 2 * factor, native)

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`.

        Raises:
            ValueError: A guidance scale for a network that was distilled to draw without.
        """
        if self.distilled and guidance_scale != 1:
            raise ValueError(f"guidance_scale is {guidance_scale}: this model was distilled to draw without, give 1")
        return self._embed([negative_prompt, prompt] if guided else [prompt])

    def _embed(self, prompts: list[str]) -> Condition:
        states, ids = self.pipeline.encode_prompt(prompts, self.device)
        return {"encoder_hidden_states": states, "txt_ids": ids}

    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """See :meth:`Adapter.evaluate`."""
        tokens = self.pipeline.transformer(
            self.pipeline._pack_latents(x),
            timestep=x.new_full((len(x),), time) / 1000,
            img_ids=self.pipeline._prepare_latent_ids(x).to(x.device),
            **condition,
        ).sample
        return tokens.transpose(1, 2).reshape(x.shape)

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """See :meth:`Adapter.decode`; for the pipeline's own decoder, standardisation and packing are undone."""
        if decoder is not self.pipeline.vae:
            return super().decode(decoder, latents)
        mean, variance = (
            moment.to(latents).view(1, -1, 1, 1) for moment in (decoder.bn.running_mean, decoder.bn.running_var)
        )
        latents = latents * (variance + decoder.config.batch_norm_eps).sqrt() + mean
        return decoder.decode(self.pipeline._unpatchify_latents(latents).to(decoder.dtype)).sample

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`Adapter.schedule`."""
        shift = empirical_shift(self.latent_shape[1] * self.latent_shape[2], num_inference_steps)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)


class Flux2(Flux2Klein):
    """Adapter of Flux2Pipeline: FLUX.2 dev, told its guidance scale."""

    @property
    def distilled(self) -> bool:
        """See :attr:`Adapter.distilled`."""
        return True

    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`Adapter.encode`."""
        return self._embed([prompt]) | {"guidance": torch.tensor([guidance_scale], device=self.device)}


def empirical_shift(tokens: int, steps: int) -> float:
    """The shift mu that Black Forest Labs fitted: linear in the picture's tokens at 10 and 200 steps, and in steps."""
    many = 0.00016927 * tokens + 0.45666666
    few = 8.73809524e-05 * tokens + 1.89833333
    return many if tokens > 4300 else few + (many - few) * (steps - 10) / 190
