"""Fits of a tiny Stable Diffusion with random weights, in a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import AdapterWriter
from srsoup_lightning.callbacks.adapter_writer import last_checkpoint
from srsoup_lightning.finetune import LoRA, Objective, PolicyGradient, Training
from srsoup_lightning.samplers import BaseModel
from tests.conftest import Channel, quiet_trainer
from tests.diffusion.drawing import sized

PROMPTS = ["a cat", "a dog", "photo"]
PROCESS = {"num_inference_steps": 3, "guidance_scale": 2.0}
SMALL = PROCESS | {"groups": 2, "group_size": 3, "train_batch": 2}


def tracked(**options: object) -> PolicyGradient:
    """A policy gradient whose tracker remembers earlier rounds."""
    return PolicyGradient(**SMALL | {"advantage": "tracker", "tracker_least": 4} | options)


def momentum(weights: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=2.0, momentum=0.9)


class Smooth(Channel):
    """A channel whose gradient is known."""

    is_differentiable = True


def make_fit(
    objective: Objective | None = None,
    weights: Sequence[Sequence[float]] = ((1.0, 0.0),),
    **options: object,
) -> SRSoupModule:
    """A module that tunes the red channel; the blue one is held out. Options named as Training's go there."""
    names = ("lora", "updates", "scheduler", "seed", "conditioning")
    kept = {name: options.pop(name) for name in names if name in options}
    lora = {"lora": LoRA(rank=2, alpha=6, targets=("to_q", "to_v"))}
    training = Training(objective=objective or tracked(), optimizer=momentum, **lora | kept)
    rewards, preferences = {"red": Smooth(0), "blue": Channel(2)}, Preferences(["red", "blue"], weights)
    return SRSoupModule(sized("SD"), rewards, BaseModel(**PROCESS), preferences, training=training, **options)


def fit(
    root: Path, module: SRSoupModule | None = None, rounds: int = 3, resume: bool = True, **options: object
) -> SRSoupModule:
    """Run a fit to its end, from the last checkpoint if there is one, with options of the Trainer."""
    module, (writer, *others) = module or make_fit(), options.pop("callbacks", [AdapterWriter()])
    data = PromptDataModule(PROMPTS, validation_prompts=options.pop("validation_prompts", []))
    trainer = trainer_of(root, rounds, callbacks=[*others, writer], **options)
    trainer.fit(module, datamodule=data, ckpt_path=last_checkpoint(root) if resume else None)
    return module


def trainer_of(root: Path, rounds: int, **options: object) -> L.Trainer:
    return quiet_trainer(max_epochs=rounds, default_root_dir=root, enable_checkpointing=True, **options)


def adapter_bytes(root: Path) -> bytes:
    return (root / "adapter" / "pytorch_lora_weights.safetensors").read_bytes()
