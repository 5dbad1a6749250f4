"""Stable Diffusion 1.x and 2.x: a UNet, one CLIP text encoder, DDIM."""

from __future__ import annotations

from functools import partial

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import DDIM, Prediction, dynamic_threshold, predict


class StableDiffusion(Backbone):
    """Adapter of diffusers' StableDiffusionPipeline, whatever its scheduler predicts: noise, velocity or sample.

    Args:
        pipeline: The loaded pipeline; its scheduler's config is read, its scheduler isn't used.
        height: Pixels; None takes the UNet's own size.
        width: Pixels; None takes the UNet's own size.
        preview_decoder: A cheaper decoder of the same latents for the pictures that only rewards see.

    Raises:
        ValueError: A size that isn't a positive multiple of the latent's pixels, or a preview decoder of other latents.
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        height: int | None = None,
        width: int | None = None,
        preview_decoder: AutoencoderTiny | None = None,
    ) -> None:
        super().__init__()
        self.preview_decoder = None if preview_decoder is None else preview_decoder.eval().requires_grad_(False)
        self.unet = pipeline.unet.eval().requires_grad_(False)
        self.vae = pipeline.vae.eval().requires_grad_(False)
        self.text_encoder = pipeline.text_encoder.eval().requires_grad_(False)
        self.pipeline = pipeline
        # A scheduler that isn't DDIM has no word on clipping, and DDIM's own default clips latents to [-1, 1]. Without
        # the list of values that were defaults, from_config would put DDIM's defaults in their place.
        config = {"clip_sample": False, **pipeline.scheduler.config}
        config.pop("_use_default_values", None)
        self.scheduler = DDIMScheduler.from_config(config)
        factor = pipeline.vae_scale_factor
        native = self.unet.config.sample_size * factor
        sides = tuple(native if side is None else side for side in (height, width))
        multiple = factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        for name, side in zip(("height", "width"), sides, strict=True):
            if side < 1 or side % multiple:
                raise ValueError(
                    f"{name} is {side}: this model draws multiples of {multiple} pixels, natively {native}"
                )
        self.latent_shape = (self.unet.config.in_channels, sides[0] // factor, sides[1] // factor)
        if preview_decoder is not None and preview_decoder.config.latent_channels != self.latent_shape[0]:
            raise ValueError(
                f"the preview decoder reads {preview_decoder.config.latent_channels} latent channels and the pipeline "
                f"makes {self.latent_shape[0]}: take the AutoencoderTiny that was distilled for this model"
            )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.unet.device

    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """See :meth:`Backbone.bind`."""
        guided = guidance_scale > 1
        embeddings = self._encode(prompt, negative_prompt, guided)
        timesteps, kernel = self._schedule(num_inference_steps, eta)

        def predict_from(x: Tensor, level: int, states: Tensor) -> Prediction:
            output = self._network(x, timesteps[level], states, guidance_scale)
            return self._clip(predict(output, x, kernel.alphas[level], self.scheduler.config.prediction_type))

        return Denoiser(
            shape=self.latent_shape,
            kernel=kernel,
            predict=partial(predict_from, states=embeddings),
            predict_unguided=partial(predict_from, states=embeddings[-1:]),
            decode=partial(decode, self.vae),
            decode_preview=partial(decode, self.preview_decoder or self.vae),
            evaluations=len(embeddings),
            device=self.device,
        )

    @torch.no_grad()
    def _encode(self, prompt: str, negative_prompt: str, guided: bool) -> Tensor:
        """Text states (1 or 2, tokens, width): under guidance the negative prompt's first."""
        positive, negative = self.pipeline.encode_prompt(prompt, self.device, 1, guided, negative_prompt)
        return torch.cat([negative, positive]) if guided else positive

    def _schedule(self, num_inference_steps: int, eta: float) -> tuple[list[int], DDIM]:
        """Timesteps of levels 0 ... T - 1 and the kernel over levels 0 ... T."""
        self.scheduler.set_timesteps(num_inference_steps)
        timesteps = self.scheduler.timesteps.tolist()
        powers = self.scheduler.alphas_cumprod.double()
        final = float(self.scheduler.final_alpha_cumprod)
        return timesteps, DDIM((*(float(powers[timestep]) for timestep in timesteps), final), eta)

    def _network(self, x: Tensor, timestep: int, embeddings: Tensor, guidance_scale: float) -> Tensor:
        """The UNet's output at x (B, C, H, W), guided where there are two embeddings, float32."""
        copies = len(embeddings)
        states = embeddings.repeat_interleave(len(x), 0).to(self.unet.dtype)
        latents = x.repeat(copies, 1, 1, 1).to(self.unet.dtype)
        output = self.unet(latents, timestep, encoder_hidden_states=states).sample.float()
        if copies == 1:
            return output
        without, given = output.chunk(2)
        return without + guidance_scale * (given - without)

    def _clip(self, prediction: Prediction) -> Prediction:
        config = self.scheduler.config
        if config.thresholding:
            x0 = dynamic_threshold(prediction.x0, config.dynamic_thresholding_ratio, config.sample_max_value)
            return Prediction(x0, prediction.noise)
        if config.clip_sample:
            return Prediction(
                prediction.x0.clamp(-config.clip_sample_range, config.clip_sample_range), prediction.noise
            )
        return prediction


def decode(autoencoder: AutoencoderKL | AutoencoderTiny, latents: Tensor) -> Tensor:
    """Clean latents (B, C, H, W) to images (B, 3, height, width) in [0, 1], float32."""
    decoded = autoencoder.decode((latents / autoencoder.config.scaling_factor).to(autoencoder.dtype)).sample
    return (decoded.float() / 2 + 0.5).clamp(0, 1)
