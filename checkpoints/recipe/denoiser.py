"""The UNet2DConditionModel of tiny-animals, trained on cached latents and tiny-clip's text tower."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset
from transformers import CLIPModel, CLIPProcessor, CLIPTextModel

from checkpoints.recipe.autoencoder import encode
from checkpoints.recipe.clip import scene_tokens, tokenize
from checkpoints.recipe.scenes import ANIMALS, Scene, with_article
from checkpoints.recipe.training import bfloat16, cosine_adamw, fit, save_grid

CAPTION_ODDS = torch.tensor([0.4, 0.2, 0.2, 0.2])  # bare, colour, pattern, both
EMPTY_ODDS = 0.1
MIN_SNR_GAMMA = 5.0
PREVIEW_EPOCHS = 4


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


class DenoiserTraining(L.LightningModule):
    """Velocity prediction with the min-SNR weight. One caption in ten is empty, for classifier-free guidance.

    Salimans & Ho 2022, arXiv:2202.00512; Hang et al. 2023, arXiv:2303.09556.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__()
        self.denoiser = pipeline.unet
        self.frozen = (pipeline,)  # a tuple, so that frozen components stay out of the checkpoint and the average
        self.learning_rate, self.steps, self.folder = learning_rate, steps, folder
        self.register_buffer("alphas_cumprod", pipeline.scheduler.alphas_cumprod, persistent=False)
        self.register_buffer("empty", tokenize(pipeline.tokenizer, [""]), persistent=False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        moments, tokens = batch
        (pipeline,) = self.frozen
        mean, std = moments.float().chunk(2, dim=1)
        latents = (mean + std * torch.randn_like(std)) * pipeline.vae.config.scaling_factor
        choice = torch.multinomial(CAPTION_ODDS.to(self.device), len(tokens), replacement=True)
        tokens = tokens[torch.arange(len(tokens)), choice]
        dropped = torch.rand(len(tokens), 1, device=self.device) < EMPTY_ODDS
        with torch.no_grad():
            encoder = pipeline.text_encoder.to(self.device)
            states = encoder(torch.where(dropped, self.empty, tokens)).last_hidden_state
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

    def on_train_epoch_end(self) -> None:
        if self.current_epoch % PREVIEW_EPOCHS:
            return
        (pipeline,) = self.frozen
        images = sample(pipeline, [with_article(animal) for animal in ANIMALS], seed=0, num_inference_steps=25)
        save_grid(images, self.folder / f"epoch_{self.current_epoch:03d}.png")

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.denoiser, self.learning_rate, self.steps)


@torch.no_grad()
def sample(pipeline: StableDiffusionPipeline, prompts: list[str], *, seed: int, num_inference_steps: int) -> Tensor:
    """One picture (3, H, W) in [0, 1] for each prompt: DDIM with eta 1, guidance 5."""
    generator = torch.Generator().manual_seed(seed)
    return pipeline(
        prompts,
        num_inference_steps=num_inference_steps,
        guidance_scale=5.0,
        eta=1.0,
        generator=generator,
        output_type="pt",
    ).images


def train_denoiser(
    pictures: Tensor,
    scenes: list[Scene],
    clip_folder: Path,
    autoencoder_folder: Path,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train on the latents of pictures (B, 3, SIZE, SIZE) uint8 and save the complete pipeline as ``folder/model``."""
    L.seed_everything(seed)
    autoencoder = (
        AutoencoderKL.from_pretrained(autoencoder_folder, torch_dtype=torch.float32).eval().requires_grad_(False)
    )
    clip, processor = (
        CLIPModel.from_pretrained(clip_folder, dtype=torch.float32),
        CLIPProcessor.from_pretrained(clip_folder),
    )
    pipeline = assemble(build_denoiser(), autoencoder, build_text_encoder(clip), processor)
    data = TensorDataset(encode(autoencoder, pictures), scene_tokens(processor.tokenizer, scenes))
    module = DenoiserTraining(pipeline, learning_rate, steps, folder)
    fit(module, data, folder, steps=steps, batch_size=batch_size, seed=seed, ema_decay=0.995)
    pipeline.unet.eval()
    pipeline.save_pretrained(folder / "model")
