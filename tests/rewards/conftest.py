"""A tiny CLIP in the official format, with random weights that make scores spread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rewards import CLIPScore, Colorfulness, JPEGCompressibility, Reward

SIZE, LENGTH = 16, 8
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tiny_tokenizer() -> CLIPTokenizer:
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")])


def tiny_network(tokenizer: CLIPTokenizer) -> CLIPModel:
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = shared | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = shared | {"image_size": SIZE, "patch_size": 4, "attention_dropout": 0.5}
    torch.manual_seed(0)
    network = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return network.eval()


def save_tiny_clip(folder: Path, **processor_options: object) -> str:
    tokenizer = tiny_tokenizer()
    options = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}} | processor_options
    tiny_network(tokenizer).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(**options), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


REWARDS: dict[str, Callable[[str], Reward]] = {
    "jpeg": lambda folder: JPEGCompressibility(workers=2),
    "colorfulness": lambda folder: Colorfulness(),
    "clip": CLIPScore,
}


@pytest.fixture(params=REWARDS)
def reward(request: pytest.FixtureRequest, clip_folder: str) -> Reward:
    return REWARDS[request.param](clip_folder)
