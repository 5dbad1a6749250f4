"""PickScore against the authors' formula on raw embeddings behind the official preprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPModel

from rewards import CLIPScore, PickScore
from tests.rewards.conftest import (
    PROMPTS,
    SIZE,
    make_legacy,
    official_pixels,
    raw_embeddings,
    save_tiny_clip,
    smooth,
)


def with_logit_scale(folder: Path, scale: float) -> str:
    network = CLIPModel.from_pretrained(save_tiny_clip(folder))
    network.logit_scale.data.fill_(scale)
    network.save_pretrained(folder)
    return str(folder)


# Resized pixels are rounded to 8 bits by PIL: at most 0.06 points on these, that spread over 8 and more.
@pytest.mark.parametrize(
    ("shape", "slack"), [((SIZE, SIZE), 1e-4), ((64, 64), 0.15), ((50, 75), 0.15), ((75, 51), 0.15), ((12, 9), 0.15)]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_the_papers_formula(tmp_path: Path, shape: tuple[int, int], slack: float, legacy: bool) -> None:
    folder = with_logit_scale(tmp_path, 3.0)
    if legacy:
        make_legacy(folder)
    images = smooth(*shape)
    seen, read = raw_embeddings(folder, official_pixels(folder, images), PROMPTS)
    expected = torch.tensor(3.0).exp() * (seen * read).sum(-1)
    assert expected.std() > 1
    torch.testing.assert_close(PickScore(folder).score(images, PROMPTS), expected, rtol=0, atol=slack)


def test_a_difference_is_the_log_odds_of_the_network(clip_folder: str) -> None:
    images = smooth(SIZE, SIZE)
    first, second = PickScore(clip_folder).score(images[:2], ["cat"] * 2)
    network, pixels = CLIPModel.from_pretrained(clip_folder), official_pixels(clip_folder, images[:2])
    tokens = PickScore(clip_folder)._tokenizer(["cat"], return_tensors="pt")
    with torch.no_grad():
        odds = network(pixel_values=pixels, **tokens).logits_per_text.log_softmax(-1)[0]
    torch.testing.assert_close(first - second, odds[0] - odds[1], rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), scale=st.floats(-2, 4.6052))
def test_it_is_clip_score_in_another_unit(clip_folder: str, seed: int, scale: float) -> None:
    pick, images = PickScore(clip_folder), torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    pick.networks[0].logit_scale.data.fill_(scale)
    unit = torch.tensor(scale).exp()
    scores = pick.score(images, PROMPTS)
    assert scores.abs().max() <= unit * (1 + 1e-5)
    torch.testing.assert_close(scores, unit * CLIPScore(clip_folder).score(images, PROMPTS) / 100, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "slack"), [("float64", 1e-4), ("float16", 0.1), ("bfloat16", 0.5)])
def test_other_precisions_are_near(tmp_path: Path, dtype: str, slack: float) -> None:
    folder = with_logit_scale(tmp_path, 2.6592)
    images = smooth(20, 20)
    torch.testing.assert_close(
        PickScore(folder, dtype).score(images, PROMPTS), PickScore(folder).score(images, PROMPTS), rtol=0, atol=slack
    )


def test_long_prompts_are_cut(clip_folder: str) -> None:
    judge, image, long = PickScore(clip_folder), smooth(SIZE, SIZE, 1), "a cat " * 50
    torch.testing.assert_close(judge.score(image, [long]), judge.score(image, [long + "dog"]))
