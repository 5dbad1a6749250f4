"""Backbones over pipelines of diffusers: guidance in one batch, precision, sizes, and places of the networks."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from srsoup_lightning.diffusion.backbone import Backbone, outside_inference_mode
from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.flow import FlowTransition
from srsoup_lightning.diffusion.geometry import Geometry
from srsoup_lightning.diffusion.precision import with_current_autocast
from srsoup_lightning.diffusion.schedule import Schedule
from srsoup_lightning.diffusion.transition import Prediction

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DiffusionPipeline, ModelMixin

Offload = Literal["none", "text_encoders", "model"]


class PipelineBackbone(Backbone):
    """Backbone over one of diffusers' pipeline classes.

    A family derives from it. The family says how to encode a prompt, how to evaluate the network, and which levels
    there are. Its ``pipelines`` name the pipeline classes that it is made for.

    Args:
        pipeline: The loaded pipeline. Its scheduler gives the levels; it takes no steps itself.
        height: Height of images in pixels; None takes the model's own.
        width: Width of images in pixels; None takes the model's own.
        preview_decoder: A cheaper decoder of the same latents, for images that only rewards see.
        transition: How fresh noise enters a rectified flow, see :mod:`~srsoup_lightning.diffusion.flow`. A
            diffusion takes "ancestral" alone.
        offload: Networks that wait in main memory: "none"; the "text_encoders", which are needed once a prompt; or
            "model", every network but the one that works. "model" saves most memory and costs a transfer at every
            change of the network.
        base_steps: Number k of the last denoising steps that the base model makes, with all LoRAs off, at least 0.
            Each schedule of a prompt has its own last steps.

    Raises:
        ValueError: A size that is no positive multiple of the pixels of a latent, or a preview decoder of other
            latents.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    """Names of the pipeline classes of diffusers that load with this backbone."""

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        *,
        height: int | None = None,
        width: int | None = None,
        preview_decoder: AutoencoderTiny | None = None,
        transition: FlowTransition = "ancestral",
        offload: Offload = "none",
        base_steps: int = 0,
    ) -> None:
        super().__init__()
        self._location: Tensor
        self.pipeline, self.transition, self.offload, self.base_steps = pipeline, transition, offload, base_steps
        networks = {name: each for name, each in pipeline.components.items() if isinstance(each, nn.Module)}
        self._text_encoders = [each for name, each in networks.items() if name.startswith("text_encoder")]
        self._hooked = False
        for name, network in networks.items():
            network.eval().requires_grad_(False)
            if offload == "none" or (offload == "text_encoders" and network not in self._text_encoders):
                setattr(self, name, network)  # a submodule: the Trainer moves it to its device
        self.preview_decoder = None if preview_decoder is None else preview_decoder.eval().requires_grad_(False)
        self.register_buffer(
            "_location", torch.empty(0, dtype=torch.float32, device=self.network.device), persistent=False
        )
        self.latent_shape = self.geometry.latent_shape(height, width)
        channels = None if preview_decoder is None else preview_decoder.config.latent_channels
        if channels not in (None, self.latent_shape[0]):
            raise ValueError(
                f"the preview decoder reads {channels} latent channels and the pipeline makes {self.latent_shape[0]}: "
                "take the AutoencoderTiny that was distilled for this model"
            )

    @property
    def network_name(self) -> str:
        """See :attr:`Backbone.network_name`; "transformer" or "unet"."""
        return "transformer" if getattr(self.pipeline, "transformer", None) is not None else "unet"

    @property
    def network(self) -> ModelMixin:
        """See :attr:`Backbone.network`."""
        return getattr(self.pipeline, self.network_name)

    @property
    def device(self) -> torch.device:
        """Device where the networks work and where the latents live."""
        return self._location.device

    @property
    def distilled(self) -> bool:
        """Whether the guidance scale is an input of the network, so that one evaluation is a guided one."""
        return False

    def guides(self, guidance_scale: float) -> bool:
        """Whether guidance of this scale takes a second evaluation, with the negative prompt."""
        return guidance_scale > 1 and not self.distilled

    @property
    @abc.abstractmethod
    def geometry(self) -> Geometry:
        """Sizes of latents and images."""

    @abc.abstractmethod
    def encode_prompt(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """Inputs of the network from the prompt: one row, or two under guidance, the negative prompt first."""

    @abc.abstractmethod
    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """Output (B, C, H, W) of the network at latents x (B, C, H, W), in its precision, with a condition of B rows.

        It must leave the condition as it is.
        """

    @abc.abstractmethod
    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """Levels of a process with this many steps and this share of fresh noise."""

    def combine(self, without: Tensor, given: Tensor, guidance_scale: float) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) of two outputs (B, C, H, W), in float32."""
        return without + guidance_scale * (given - without)

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """Images (B, 3, height, width) in [-1, 1] of clean latents (B, C, H, W)."""
        config = decoder.config
        latents = latents / config.scaling_factor
        if getattr(config, "latents_std", None) is not None:
            latents = latents * per_channel(config.latents_std, latents) + per_channel(config.latents_mean, latents)
        return decoder.decode((latents + (getattr(config, "shift_factor", None) or 0)).to(decoder.dtype)).sample

    def encode(self, images: Tensor) -> Tensor:
        """Clean latents (B, C, H, W), in float32, of images (B, 3, height, width) in [-1, 1]: inverse of `decode`."""
        config = self.pipeline.vae.config
        latents = self.posterior_mode(images) - (getattr(config, "shift_factor", None) or 0)
        if getattr(config, "latents_std", None) is not None:
            latents = (latents - per_channel(config.latents_mean, latents)) / per_channel(config.latents_std, latents)
        return latents * config.scaling_factor

    def posterior_mode(self, images: Tensor) -> Tensor:
        """Mode of the autoencoder's posterior at images in [-1, 1], before scaling, in float32.

        An autoencoder without a posterior has its code in place of the mode.
        """
        vae = self.pipeline.vae
        posterior = vae.encode(images.to(vae.dtype), return_dict=False)[0]
        return (posterior if isinstance(posterior, Tensor) else posterior.mode()).float()

    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """See :meth:`Backbone.bind`."""
        if self.distilled and negative_prompt:
            raise ValueError(
                f"negative_prompt is {negative_prompt!r}: distilled guidance leads away from nothing, leave it out"
            )
        schedule = self.schedule(num_inference_steps, eta)  # its errors come before the text encoder's work
        with torch.inference_mode(False), torch.no_grad(), self._text_encoders_on_device():
            condition = self.encode_prompt(prompt, negative_prompt, self.guides(guidance_scale), guidance_scale)
            dtype = self.network.dtype
            condition = {name: each.to(dtype) if each.is_floating_point() else each for name, each in condition.items()}
        return self._denoiser(condition, guidance_scale, schedule, with_current_autocast(self.device))

    def _denoiser(
        self, condition: Condition, guidance_scale: float, schedule: Schedule, autocast: Callable[[Any], Any]
    ) -> Denoiser:
        tuned = schedule.kernel.steps - self.base_steps  # steps before those of the base model

        def denoise(x: Tensor, level: int, condition: Condition) -> Prediction:
            with nullcontext() if level < tuned else self.without_adapters():
                return schedule.read(self._output(x, schedule.times[level], condition, guidance_scale), x, level)

        def reschedule(num_inference_steps: int, eta: float) -> Denoiser:
            return self._denoiser(condition, guidance_scale, self.schedule(num_inference_steps, eta), autocast)

        return Denoiser(
            shape=self.latent_shape,
            kernel=schedule.kernel,
            denoise=autocast(partial(denoise, condition=condition)),
            denoise_unguided=autocast(
                partial(denoise, condition={name: each[-1:] for name, each in condition.items()})
            ),
            decode=autocast(partial(self._decode, self.pipeline.vae)),
            decode_preview=autocast(partial(self._decode, self.preview_decoder or self.pipeline.vae)),
            encode=autocast(self._encode),
            reschedule=reschedule,
            evaluations=2 if self.guides(guidance_scale) else 1,
            device=self.device,
            adapters=self.adapters,
        )

    @outside_inference_mode()
    def _output(self, x: Tensor, time: float, condition: Condition, guidance_scale: float) -> Tensor:
        """Output of the network at x (B, C, H, W), guided where the condition has two rows, in float32."""
        rows = len(next(iter(condition.values())))
        each = {name: values.repeat_interleave(len(x), 0) for name, values in condition.items()}
        output = self.evaluate(x.repeat(rows, 1, 1, 1).to(self.network.dtype), time, each).float()
        if rows == 1:
            return output
        without, given = output.chunk(2)
        return self.combine(without, given, guidance_scale)

    @outside_inference_mode()
    def _decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        return (self.decode(decoder, latents).float() / 2 + 0.5).clamp(0, 1)

    @outside_inference_mode()
    def _encode(self, images: Tensor) -> Tensor:
        return self.encode(2 * images - 1)

    @contextmanager
    def _text_encoders_on_device(self) -> Iterator[None]:
        """Bring offloaded text encoders to the device, and afterwards back to main memory."""
        if self.offload == "model" and not self._hooked:
            self.pipeline.enable_model_cpu_offload(device=self.device)
            self._hooked = True
        visitors = self._text_encoders if self.offload == "text_encoders" else []
        try:
            for visitor in visitors:
                visitor.to(self.device)
            yield
        finally:
            for visitor in visitors:
                visitor.to("cpu")


def per_channel(values: Sequence[float], latents: Tensor) -> Tensor:
    """One number for each of C channels, as a tensor (1, C, 1, 1) with the device and precision of the latents."""
    return latents.new_tensor(values).view(1, -1, 1, 1)
