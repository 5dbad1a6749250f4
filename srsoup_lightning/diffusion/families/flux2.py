"""FLUX.2: a rectified flow over packed, standardised latents. A language model encodes the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule, even_flow_schedule

if TYPE_CHECKING:
    from diffusers import ModelMixin


class Flux2Klein(PipelineBackbone):
    """Backbone of FLUX.2 klein, which is distilled to draw without guidance, and of its base, which is guided."""

    pipelines: ClassVar[tuple[str, ...]] = ("Flux2KleinPipeline",)

    @property
    def distilled(self) -> bool:
        """See :attr:`PipelineBackbone.distilled`."""
        return self.pipeline.config.is_distilled

    @property
    def geometry(self) -> Geometry:
        """See :attr:`PipelineBackbone.geometry`; a latent is a patch of 2 x 2 of the autoencoder's latents."""
        factor = self.pipeline.vae_scale_factor
        native = self.pipeline.default_sample_size * factor
        return Geometry(self.pipeline.transformer.config.in_channels, 2 * factor, 2 * factor, native)

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`.

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
        """See :meth:`PipelineBackbone.evaluate`."""
        tokens = self.pipeline.transformer(
            self.pipeline._pack_latents(x),
            timestep=x.new_full((len(x),), time) / 1000,
            img_ids=self.pipeline._prepare_latent_ids(x).to(x.device),
            **condition,
        ).sample
        return tokens.transpose(1, 2).reshape(x.shape)

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """See :meth:`PipelineBackbone.decode`; the pipeline's own decoder takes latents unpacked, not standardised."""
        if decoder is not self.pipeline.vae:
            return super().decode(decoder, latents)
        mean, std = self._moments(latents)
        return decoder.decode(self.pipeline._unpatchify_latents(latents * std + mean).to(decoder.dtype)).sample

    def encode(self, images: Tensor) -> Tensor:
        """See :meth:`PipelineBackbone.encode`."""
        latents = self.pipeline._patchify_latents(self.posterior_mode(images))
        mean, std = self._moments(latents)
        return (latents - mean) / std

    def _moments(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (1, C, 1, 1) of latents, which the autoencoder keeps as a batch norm's."""
        norm = self.pipeline.vae.bn
        mean, variance = (moment.to(latents).view(1, -1, 1, 1) for moment in (norm.running_mean, norm.running_var))
        return mean, (variance + self.pipeline.vae.config.batch_norm_eps).sqrt()

    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """See :meth:`PipelineBackbone.schedule`."""
        shift = empirical_shift(self.latent_shape[1] * self.latent_shape[2], num_inference_steps)
        return even_flow_schedule(self.pipeline.scheduler, num_inference_steps, eta, self.transition, shift)


class Flux2(Flux2Klein):
    """Backbone of FLUX.2 dev, which takes the guidance scale as an input."""

    pipelines: ClassVar[tuple[str, ...]] = ("Flux2Pipeline",)

    @property
    def distilled(self) -> bool:
        """See :attr:`PipelineBackbone.distilled`."""
        return True

    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """See :meth:`PipelineBackbone.encode_prompt`."""
        return self._embed([prompt]) | {
            "guidance": torch.tensor([guidance_scale], dtype=torch.float32, device=self.device)
        }


def empirical_shift(tokens: int, steps: int) -> float:
    """Shift mu as Black Forest Labs fitted it: linear in the tokens at 10 and at 200 steps, and linear in the steps."""
    many = 0.00016927 * tokens + 0.45666666
    few = 8.73809524e-05 * tokens + 1.89833333
    return many if tokens > 4300 else few + (many - few) * (steps - 10) / 190
