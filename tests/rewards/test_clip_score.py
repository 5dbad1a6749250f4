"""CLIPScore against CLIPModel.forward behind the official preprocessing, its gradients, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from rewards import CLIPScore
from tests.rewards.conftest import (
    LENGTH,
    PROMPTS,
    SIZE,
    official_pixels,
    save_tiny_clip,
    smooth,
    tiny_tokenizer,
)


def official(folder: str, images: Tensor, prompts: list[str]) -> Tensor:
    network = CLIPModel.from_pretrained(folder)
    tokens = tiny_tokenizer()(prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        out = network(pixel_values=official_pixels(folder, images), **tokens)
        return 100 * (out.logits_per_image / network.logit_scale.exp()).diagonal()


EXACT = [(SIZE, SIZE), (SIZE, 2 * SIZE + 1), (2 * SIZE + 1, SIZE)]  # cropped at most, so no pixel is rounded
RESIZED = [(64, 64), (50, 75), (75, 51), (12, 9)]


@pytest.mark.parametrize("shape", EXACT + RESIZED)
def test_the_official_formula(clip_folder: str, shape: tuple[int, int]) -> None:
    images = smooth(*shape)
    scores = CLIPScore(clip_folder).score(images, PROMPTS)
    assert scores.std() > 3
    rtol, atol = (1e-4, 1e-3) if shape in EXACT else (0, 0.5)
    torch.testing.assert_close(scores, official(clip_folder, images, PROMPTS), rtol=rtol, atol=atol)


def test_hard_edges_do_not_overshoot(clip_folder: str) -> None:
    images = (smooth(48, 48) > 0.5).float()
    scores = CLIPScore(clip_folder).score(images, PROMPTS)
    torch.testing.assert_close(scores, official(clip_folder, images, PROMPTS), rtol=0, atol=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": SIZE, "width": SIZE}, "do_center_crop": False, "resample": 2},
        {"do_resize": False},
        {"size": {"shortest_edge": SIZE - 3}},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    ],
    ids=lambda options: "-".join(options),
)
def test_processor_options_are_honoured(tmp_path: Path, options: dict) -> None:
    folder = save_tiny_clip(tmp_path, **options)
    images = smooth(19, 26)
    scores = CLIPScore(folder).score(images, PROMPTS)
    torch.testing.assert_close(scores, official(folder, images, PROMPTS), rtol=0, atol=0.5)


def test_scores_stay_within_100_and_reach_below_0(clip_folder: str) -> None:
    scores = CLIPScore(clip_folder).score(torch.rand(64, 3, SIZE, SIZE), PROMPTS * 16)
    assert scores.abs().max() <= 100
    assert scores.min() < 0


def test_a_prompt_is_embedded_once(clip_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, asked = CLIPScore(clip_folder), []
    network = judge.networks[0]
    embed = network.get_text_features

    def counting(input_ids: Tensor, **options: Tensor) -> object:
        asked.append(len(input_ids))
        return embed(input_ids=input_ids, **options)

    monkeypatch.setattr(network, "get_text_features", counting)
    images = smooth(SIZE, SIZE)
    for _ in range(3):
        judge.score(images, ["cat", "a dog", "cat", "cat"])
    judge.score(images[:2], ["cat", "zebra"])
    assert asked == [2, 1]
    assert len(judge._texts) == 2


def test_processor_saved_as_parts_or_whole(tmp_path: Path, clip_folder: str) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "parts", ignore=shutil.ignore_patterns("*processor*")))
    CLIPProcessor.from_pretrained(clip_folder).image_processor.save_pretrained(folder)
    images = smooth(20, 31)
    torch.testing.assert_close(CLIPScore(folder).score(images, PROMPTS), CLIPScore(clip_folder).score(images, PROMPTS))
