"""The UNet2DConditionModel of tiny-animals, trained on cached latents and tiny-clip's text tower."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPModel, CLIPProcessor, CLIPTextModel

from checkpoints.recipe.pipeline import PipelineTraining
from checkpoints.recipe.training import bfloat16

MIN_SNR_GAMMA = 5.0


def build_denoiser() -> UNet2DConditionModel:
    """An untrained UNet for 4 x 16 x 16 latents; attention at 8 x 8 and below."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 144),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """A cosine schedule for the velocity. Its last level is pure noise, so backgrounds can have any colour."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def build_text_encoder(clip: CLIPModel) -> CLIPTextModel:
    """The text tower of `clip` as a pipeline's text encoder, frozen."""
    encoder = CLIPTextModel(clip.config.text_config)
    names = set(encoder.state_dict())
    state = clip.text_model.state_dict()
    prefix = "" if names == set(state) else "text_model."
    encoder.load_state_dict({prefix + name: value for name, value in state.items()})
    return encoder.eval().requires_grad_(False)


def assemble(
    denoiser: UNet2DConditionModel, autoencoder: AutoencoderKL, text_encoder: CLIPTextModel, processor: CLIPProcessor
) -> StableDiffusionPipeline:
    """A pipeline of diffusers, made of these components."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=processor.tokenizer,
        unet=denoiser,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class DenoiserTraining(PipelineTraining):
    """Velocity prediction with the min-SNR weight.

    Salimans & Ho 2022, arXiv:2202.00512; Hang et al. 2023, arXiv:2303.09556.
    """

    preview_options: ClassVar[dict[str, object]] = {"num_inference_steps": 25, "eta": 1.0}

    def __init__(self, pipeline: StableDiffusionPipeline, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__(pipeline, pipeline.unet, learning_rate, steps, folder)
        self.register_buffer("alphas_cumprod", pipeline.scheduler.alphas_cumprod, persistent=False)

    @classmethod
    def begin(
        cls,
        autoencoder: AutoencoderKL,
        clip: CLIPModel,
        processor: CLIPProcessor,
        learning_rate: float,
        steps: int,
        folder: Path,
    ) -> DenoiserTraining:
        pipeline = assemble(build_denoiser(), autoencoder, build_text_encoder(clip), processor)
        return cls(pipeline, learning_rate, steps, folder)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        latents, tokens = self.latents_and_tokens(batch)
        (pipeline,) = self.frozen
        with torch.no_grad():
            encoder = pipeline.text_encoder.to(self.device)
            states = encoder(tokens).last_hidden_state
        steps = torch.randint(len(self.alphas_cumprod), (len(latents),), device=self.device)
        alpha = self.alphas_cumprod[steps].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        with (
            bfloat16(self),
            sdpa_kernel(SDPBackend.MATH),
        ):  # on a CPU, flash attention's backward takes a third of the step
            velocity = self.denoiser(noisy, steps, states).sample
        error = F.mse_loss(velocity.float(), target, reduction="none").mean((1, 2, 3))
        snr = (alpha / (1 - alpha)).flatten()
        loss = (error * snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1) * 2).mean()
        self.log_dict({"loss": loss, "velocity_error": error.mean()})
        return loss
