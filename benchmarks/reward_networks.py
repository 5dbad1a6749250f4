"""Networks for timing rewards: of a usual size, in the official formats, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rewards.shipped import CLIP_MODELS

HEAD_WIDTHS = (512, 1024, 128, 64, 16, 1)
HEAD_LAYERS = (0, 2, 4, 6, 7)


def save_clip(folder: Path) -> None:
    """A CLIP of the size of ViT-B/32 with random weights, and the shipped CLIP's words."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(str(CLIP_MODELS.find("tiny-clip")))
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder)


def save_aesthetic_head(folder: Path) -> Path:
    """An aesthetic head for that CLIP, with random weights."""
    head = {}
    for layer, ins, outs in zip(HEAD_LAYERS, HEAD_WIDTHS, HEAD_WIDTHS[1:], strict=False):
        head |= {f"layers.{layer}.weight": torch.randn(outs, ins), f"layers.{layer}.bias": torch.randn(outs)}
    save_file(head, folder / "head.safetensors")
    return folder / "head.safetensors"
