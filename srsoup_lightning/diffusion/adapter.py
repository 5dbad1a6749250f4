"""What the adapters of all diffusers pipelines share: guidance in one batch, precision, sizes, where networks live."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.flow import FlowTransition
from srsoup_lightning.diffusion.schedule import Schedule
from srsoup_lightning.diffusion.transition import Prediction

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DiffusionPipeline, ModelMixin

Offload = Literal["none", "text_encoders", "model"]
Condition = dict[str, Tensor]
"""What the network is told beside latents and time; a row a prompt, the one to draw last."""


class Geometry(NamedTuple):
    """What a family's latents are to its pictures."""

    channels: int  # of a latent
    factor: int  # pixels a latent's row and column stand for
    multiple: int  # what height and width in pixels must be multiples of
    native: int  # pixels of the side that the model was trained on

    @classmethod
    def of_patches(cls, pipeline: DiffusionPipeline) -> Geometry:
        """Of a transformer whose config says the latents' side and the patches that it cuts them into."""
        config, factor = pipeline.transformer.config, pipeline.vae_scale_factor
        return cls(config.in_channels, factor, factor * config.patch_size, config.sample_size * factor)

    @classmethod
    def of_packed(cls, pipeline: DiffusionPipeline) -> Geometry:
        """Of a transformer that is given 2 x 2 latents as one token."""
        factor = pipeline.vae_scale_factor
        channels = pipeline.transformer.config.in_channels // 4
        return cls(channels, factor, 2 * factor, pipeline.default_sample_size * factor)


class Adapter(Backbone):
    """Adapter of one of diffusers' pipeline classes; a family says how to encode, evaluate and decode, and its levels.

    Args:
        pipeline: The loaded pipeline; its scheduler says which levels there are, the steps are ours.
        height: Pixels; None takes the model's own.
        width: Pixels; None takes the model's own.
        preview_decoder: A cheaper decoder of the same latents for the pictures that only rewards see.
        transition: How fresh noise comes into a rectified flow, see :mod:`~srsoup_lightning.diffusion.flow`; diffusion
            models have no use for it.
        offload: What waits in main memory: "none"; the "text_encoders", which are needed once a prompt; or "model",
            every network but the one at work, which saves most and costs a transfer at every change.

    Raises:
        ValueError: A size that isn't a positive multiple of the latent's pixels, or a preview decoder of other latents.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        *,
        height: int | None = None,
        width: int | None = None,
        preview_decoder: AutoencoderTiny | None = None,
        transition: FlowTransition = "ancestral",
        offload: Offload = "none",
    ) -> None:
        super().__init__()
        self._place: Tensor
        self.pipeline, self.transition, self.offload = pipeline, transition, offload
        parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        self._text_encoders = [part for name, part in parts.items() if name.startswith("text_encoder")]
        self._hooked = False
        for name, part in parts.items():
            part.eval().requires_grad_(False)
            if offload == "none" or (offload == "text_encoders" and part not in self._text_encoders):
                setattr(self, name, part)  # a submodule: the Trainer moves it to its device
        self.preview_decoder = None if preview_decoder is None else preview_decoder.eval().requires_grad_(False)
        self.register_buffer("_place", torch.empty(0, device=self.network.device), persistent=False)
        self.latent_shape = self._latent_shape(height, width)
        channels = None if preview_decoder is None else preview_decoder.config.latent_channels
        if channels not in (None, self.latent_shape[0]):
            raise ValueError(
                f"the preview decoder reads {channels} latent channels and the pipeline makes {self.latent_shape[0]}: "
                "take the AutoencoderTiny that was distilled for this model"
            )

    @property
    def network(self) -> ModelMixin:
        """The denoising network."""
        return getattr(self.pipeline, "transformer", None) or self.pipeline.unet

    @property
    def device(self) -> torch.device:
        """Where the networks work, and the latents live."""
        return self._place.device

    @property
    def distilled(self) -> bool:
        """Whether the network is told the guidance scale, so that one evaluation is a guided one."""
        return False

    def guides(self, guidance_scale: float) -> bool:
        """Whether guidance of this scale takes a second evaluation, that of the negative prompt."""
        return guidance_scale > 1 and not self.distilled

    @property
    @abc.abstractmethod
    def geometry(self) -> Geometry:
        """What latents are to pictures."""

    @abc.abstractmethod
    def encode(self, prompt: str, negative_prompt: str, guided: bool, guidance_scale: float) -> Condition:
        """What the network is told of the prompt: one row, or two under guidance, the negative prompt's first."""

    @abc.abstractmethod
    def evaluate(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """The network's output (B, C, H, W) at latents x (B, C, H, W) with a condition of B rows, in its precision."""

    @abc.abstractmethod
    def schedule(self, num_inference_steps: int, eta: float) -> Schedule:
        """The levels."""

    def combine(self, without: Tensor, given: Tensor, guidance_scale: float) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) of two outputs (B, C, H, W), float32."""
        return without + guidance_scale * (given - without)

    def decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        """Clean latents (B, C, H, W) to images (B, 3, height, width) in [-1, 1]."""
        config = decoder.config
        latents = latents / config.scaling_factor
        if getattr(config, "latents_std", None) is not None:
            channels = (1, -1, 1, 1)
            latents = latents * latents.new_tensor(config.latents_std).view(channels)
            latents = latents + latents.new_tensor(config.latents_mean).view(channels)
        return decoder.decode((latents + (getattr(config, "shift_factor", None) or 0)).to(decoder.dtype)).sample

    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """See :meth:`Backbone.bind`."""
        if self.distilled and negative_prompt:
            raise ValueError(
                f"negative_prompt is {negative_prompt!r}: distilled guidance leads away from nothing, leave it out"
            )
        schedule = self.schedule(num_inference_steps, eta)
        guided = self.guides(guidance_scale)
        with torch.no_grad(), self._encoding():
            condition = self.encode(prompt, negative_prompt, guided, guidance_scale)
        dtype = self.network.dtype
        condition = {name: each.to(dtype) if each.is_floating_point() else each for name, each in condition.items()}

        def denoise(x: Tensor, level: int, condition: Condition) -> Prediction:
            return schedule.read(self._output(x, schedule.times[level], condition, guidance_scale), x, level)

        return Denoiser(
            shape=self.latent_shape,
            kernel=schedule.kernel,
            denoise=partial(denoise, condition=condition),
            denoise_unguided=partial(denoise, condition={name: each[-1:] for name, each in condition.items()}),
            decode=partial(self._decode, self.pipeline.vae),
            decode_preview=partial(self._decode, self.preview_decoder or self.pipeline.vae),
            evaluations=2 if guided else 1,
            device=self.device,
        )

    def _output(self, x: Tensor, time: float, condition: Condition, guidance_scale: float) -> Tensor:
        """The network's output at x (B, C, H, W), guided where the condition has two rows, float32."""
        rows = len(next(iter(condition.values())))
        each = {name: values.repeat_interleave(len(x), 0) for name, values in condition.items()}
        output = self.evaluate(x.repeat(rows, 1, 1, 1).to(self.network.dtype), time, each).float()
        if rows == 1:
            return output
        without, given = output.chunk(2)
        return self.combine(without, given, guidance_scale)

    def _decode(self, decoder: ModelMixin, latents: Tensor) -> Tensor:
        return (self.decode(decoder, latents).float() / 2 + 0.5).clamp(0, 1)

    def _latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        channels, factor, multiple, native = self.geometry
        sides = {"height": native if height is None else height, "width": native if width is None else width}
        for name, side in sides.items():
            if side < 1 or side % multiple:
                raise ValueError(
                    f"{name} is {side}: this model draws multiples of {multiple} pixels, natively {native}"
                )
        return channels, sides["height"] // factor, sides["width"] // factor

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Where networks are offloaded, bring what encodes prompts to the device for a while."""
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


def condition_of(guided: bool, **parts: tuple[Tensor, Tensor]) -> Condition:
    """A condition's rows: of each part, the prompt's (1, ...), and under guidance the negative prompt's before it.

    Args:
        guided: Whether guidance takes a second evaluation.
        parts: The negative prompt's, which is not looked at without guidance, and the prompt's.
    """
    return {name: torch.cat([without, given]) if guided else given for name, (without, given) in parts.items()}
