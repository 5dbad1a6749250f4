"""Common code of the trainings: a resumable fit, a learning-rate schedule and a grid of pictures."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

WARMUP_STEPS = 200
EPOCH_STEPS = 250
EMA_STEPS = 5


def cosine_adamw(model: nn.Module, learning_rate: float, steps: int, weight_decay: float = 0.01) -> dict:
    """AdamW with a linear warm-up and a cosine decay to zero over `steps`, as ``configure_optimizers`` returns it."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, min(WARMUP_STEPS, steps // 5), steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    module: L.LightningModule,
    data: TensorDataset,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    ema_decay: float | None = None,
) -> None:
    """Train for `steps` steps in all. A run that was stopped continues from ``folder/last.ckpt``.

    An epoch has `EPOCH_STEPS` batches and ends with a checkpoint. The sampler is seeded by (seed, epoch), so a resumed
    run sees the same batches as a run without interruption. With `ema_decay`, the module ends with the exponential
    moving average of its weights, updated every `EMA_STEPS`.
    """
    L.seed_everything(seed)
    sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True, seed=seed)
    callbacks: list[L.Callback] = [ModelCheckpoint(folder, filename="last", enable_version_counter=False)]
    if ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=ema_decay, update_every_n_steps=EMA_STEPS))
    trainer = L.Trainer(
        max_steps=steps,
        limit_train_batches=EPOCH_STEPS,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="log", version=0),
        log_every_n_steps=50,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    last = folder / "last.ckpt"
    loader = DataLoader(data, batch_size=batch_size, sampler=sampler, drop_last=True)
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None)


def bfloat16(module: L.LightningModule) -> torch.autocast:
    """Autocast for a module's forward pass. The Trainer's own allows no clipping with a fused optimizer."""
    return torch.autocast(module.device.type, torch.bfloat16)


def save_grid(images: Tensor, path: Path, columns: int = 8, scale: int = 2) -> None:
    """Write images (B, 3, H, W) in [0, 1] as one PNG, row by row. A last row that is not full is dropped."""
    rows = len(images) // columns
    height, width = images.shape[-2:]
    tiles = images[: rows * columns].reshape(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    pixels = (tiles.clamp(0, 1) * 255).round().byte().cpu().reshape(rows * height, columns * width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.numpy())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
