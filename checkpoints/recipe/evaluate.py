"""Quality of the builtin checkpoints: the numbers of their model cards."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from checkpoints.recipe.clip import zero_shot
from checkpoints.recipe.pipeline import sample
from checkpoints.recipe.preview import CHUNK, decoded_latents
from checkpoints.recipe.scenes import ANIMALS, FONT, draw_many, with_article

FRESH_SEED = 1_000_003  # seed of scenes that no training uses
SEEDS = 8


def scene_accuracy(clip_folder: Path, number: int, font: Path = FONT) -> float:
    """Share of `number` fresh scenes whose animal tiny-clip names first among all, in [0, 1]."""
    clip, processor = load_clip(clip_folder)
    pictures, scenes = draw_many(number, FRESH_SEED, font)
    truth = torch.tensor([list(ANIMALS).index(scene.animal) for scene in scenes])
    return float((zero_shot(clip, processor, pictures.float() / 255) == truth).float().mean())


def draw_animals(pipeline: DiffusionPipeline, num_inference_steps: int, **options: object) -> Tensor:
    """Pictures of "a <animal>", (SEEDS, animals, 3, H, W) in [0, 1], with further options of :func:`sample`."""
    pipeline.set_progress_bar_config(disable=True)
    prompts = [with_article(animal) for animal in ANIMALS]
    return torch.stack(
        [
            sample(pipeline, prompts, seed=seed, num_inference_steps=num_inference_steps, **options)
            for seed in range(SEEDS)
        ]
    )


def picture_accuracy(clip_folder: Path, pictures: Tensor) -> dict[str, float]:
    """Share of the pictures (seeds, animals, 3, H, W) of each animal that tiny-clip names first, in [0, 1]."""
    clip, processor = load_clip(clip_folder)
    named = zero_shot(clip, processor, pictures.flatten(0, 1)).view(pictures.shape[:2])
    right = (named == torch.arange(len(ANIMALS))).float().mean(0)
    return dict(zip(ANIMALS, right.tolist(), strict=True))


@torch.no_grad()
def decoded_difference(tiny_folder: Path, teacher_folder: Path, number: int, font: Path = FONT) -> float:
    """Mean absolute difference in [0, 255] between the pictures of two decoders, on fresh scenes and mixtures."""
    teacher = AutoencoderKL.from_pretrained(teacher_folder, torch_dtype=torch.float32).eval()
    tiny = AutoencoderTiny.from_pretrained(tiny_folder, torch_dtype=torch.float32).eval()
    pictures, _ = draw_many(number, FRESH_SEED, font)
    latents, images = decoded_latents(teacher, pictures, FRESH_SEED).tensors
    decoded = torch.cat([tiny.decode(chunk.float()).sample for chunk in latents.split(CHUNK)])
    return float(((decoded.clamp(-1, 1) + 1) * 127.5 - images).abs().mean())


def load_clip(folder: Path) -> tuple[CLIPModel, CLIPProcessor]:
    """The network in float32 and its processor."""
    return CLIPModel.from_pretrained(folder, dtype=torch.float32).eval(), CLIPProcessor.from_pretrained(folder)
