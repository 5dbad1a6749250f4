"""tiny-animals-preview: a small decoder of tiny-animals' latents, for pictures that only rewards see."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.utils.data import TensorDataset

from checkpoints.recipe.autoencoder import reconstruction_error, show
from checkpoints.recipe.training import cosine_adamw, fit

WIDTH = 16
CHUNK = 64


def build_preview_decoder() -> AutoencoderTiny:
    """An untrained autoencoder whose decoder has 40,000 parameters. Its encoder is not used and stays untrained."""
    return AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(WIDTH,) * 3,
        decoder_block_out_channels=(WIDTH,) * 3,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(2, 2, 1),
    )


class PreviewTraining(L.LightningModule):
    """Distillation of an autoencoder's decoder, with the loss of DecoderTraining."""

    def __init__(self, autoencoder: AutoencoderTiny, learning_rate: float, steps: int, folder: Path) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        autoencoder.encoder.requires_grad_(False)
        self.learning_rate, self.steps, self.folder = learning_rate, steps, folder

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        latents, images = batch[0].float(), batch[1].float() / 127.5 - 1
        decoded = self.autoencoder.decode(latents).sample
        self.log("error", F.l1_loss(decoded, images))
        show(self, images, decoded)
        return reconstruction_error(decoded, images)

    def configure_optimizers(self) -> dict:
        return cosine_adamw(self.autoencoder, self.learning_rate, self.steps)


@torch.no_grad()
def decoded_latents(autoencoder: AutoencoderKL, pictures: Tensor, seed: int) -> TensorDataset:
    """Latents in a pipeline's scale, (B, 4, 16, 16) float16, and their decoded pictures, (B, 3, SIZE, SIZE) uint8.

    Every second latent is mixed with the one before it, because predictions of early steps look like mixtures.

    Args:
        autoencoder: The teacher.
        pictures: (B, 3, SIZE, SIZE) uint8, an even number of them.
        seed: Seed of the shares in the mixtures.
    """
    chunks = pictures.split(CHUNK)
    means = torch.cat([autoencoder.encode(chunk.float() / 127.5 - 1).latent_dist.mean for chunk in chunks])
    share = torch.rand(len(means) // 2, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    means[1::2] = torch.lerp(means[1::2], means[::2], share)
    images = torch.cat([autoencoder.decode(chunk).sample for chunk in means.split(CHUNK)])
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    return TensorDataset((means * autoencoder.config.scaling_factor).half(), pixels)


def train_preview_decoder(
    pictures: Tensor, teacher: Path, folder: Path, *, steps: int, batch_size: int, learning_rate: float, seed: int
) -> None:
    """Distil the autoencoder at `teacher` on pictures (B, 3, SIZE, SIZE) uint8, and save as ``folder/model``."""
    data = decoded_latents(AutoencoderKL.from_pretrained(teacher, torch_dtype=torch.float32).eval(), pictures, seed)
    L.seed_everything(seed)
    autoencoder = build_preview_decoder()
    module = PreviewTraining(autoencoder, learning_rate, steps, folder)
    fit(module, data, folder, steps=steps, batch_size=batch_size, seed=seed)
    autoencoder.save_pretrained(folder / "model")
