"""The AutoencoderKL of tiny-animals: 64 x 64 pixels to 4 x 16 x 16 latents."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import TensorDataset

from checkpoints.recipe.scenes import SIZE
from checkpoints.recipe.training import bfloat16, cosine_adamw, fit, save_grid

KL_WEIGHT = 3e-4


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder, 1.5 million parameters."""
    return AutoencoderKL(
        block_out_channels=(16, 48, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIZE,
    )


def reconstruction_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of the pixels plus that of their differences to the right and to the lower neighbour.

    The differences measure edges. The second term is the gradient difference loss of Mathieu et al. 2016,
    arXiv:1511.05440.
    """
    error = decoded - images
    return error.abs().mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def show(module: L.LightningModule, images: Tensor, decoded: Tensor) -> None:
    """Every 500 steps, write images (B, 3, H, W) in [-1, 1] and their reconstructions to the module's `folder`."""
    if module.global_step % 500 == 0:
        save_grid(torch.cat([images[:8], decoded[:8].detach()]) / 2 + 0.5, module.folder / "reconstruction.png")


class DecoderTraining(L.LightningModule):
    """Training of the decoder alone. The encoder is frozen, so the denoiser's latents stay the same."""

    def __init__(self, autoencoder: AutoencoderKL, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        autoencoder.encoder.requires_grad_(False)
        autoencoder.quant_conv.requires_grad_(False)
        self.learning_rate, self.steps, self.folder = learning_rate, steps, folder

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images = batch[0].float() / 127.5 - 1
        with bfloat16(self):
            with torch.no_grad():
                latents = self.autoencoder.encode(images).latent_dist.sample()
            decoded = self.autoencoder.decode(latents).sample.float()
        self.log("error", F.l1_loss(decoded, images))
        show(self, images, decoded)
        return reconstruction_error(decoded, images)

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.autoencoder, self.learning_rate, self.steps)


class AutoencoderTraining(L.LightningModule):
    """Training with the absolute error of the reconstruction plus a small Kullback-Leibler term."""

    def __init__(self, autoencoder: AutoencoderKL, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.learning_rate, self.steps, self.folder = learning_rate, steps, folder

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images = batch[0].float() / 127.5 - 1
        with bfloat16(self):
            posterior = self.autoencoder.encode(images).latent_dist
            decoded = self.autoencoder.decode(posterior.sample()).sample
        error, divergence = F.l1_loss(decoded.float(), images), posterior.kl().mean() / posterior.mean[0].numel()
        self.log_dict({"error": error, "divergence": divergence})
        show(self, images, decoded)
        return error + KL_WEIGHT * divergence

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.autoencoder, self.learning_rate, self.steps)


def train_autoencoder(
    pictures: Tensor, folder: Path, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    """Train on pictures (B, 3, SIZE, SIZE) uint8 and save as ``folder/model``.

    The scaling factor that is saved with it gives latents unit variance.
    """
    L.seed_everything(seed)
    autoencoder = build_autoencoder()
    module = AutoencoderTraining(autoencoder, learning_rate, steps, folder)
    fit(module, TensorDataset(pictures), folder, steps=steps, batch_size=batch_size, seed=seed, ema_decay=0.975)
    autoencoder.eval()
    mean, _ = encode(autoencoder, pictures[:2048]).chunk(2, dim=1)
    autoencoder.register_to_config(scaling_factor=1 / mean.float().std().item())
    autoencoder.save_pretrained(folder / "model")


def refine_decoder(
    pictures: Tensor, start: Path, folder: Path, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    """Train the decoder of the autoencoder at `start` further and save it as ``folder/model``.

    Pictures are those of :func:`train_autoencoder`.
    """
    L.seed_everything(seed)
    autoencoder = AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32)
    module = DecoderTraining(autoencoder, learning_rate, steps, folder)
    fit(module, TensorDataset(pictures), folder, steps=steps, batch_size=batch_size, seed=seed, ema_decay=0.995)
    autoencoder.save_pretrained(folder / "model")


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Mean and standard deviation of each picture's latents, (B, 8, 16, 16) float16, not scaled."""
    chunks = []
    for chunk in pictures.split(64):
        posterior = autoencoder.encode(chunk.float() / 127.5 - 1).latent_dist
        chunks.append(torch.cat([posterior.mean, posterior.std], dim=1).half())
    return torch.cat(chunks)
