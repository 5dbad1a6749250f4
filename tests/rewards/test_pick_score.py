"""PickScore against the authors' formula on raw embeddings behind the official preprocessing."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CLIPModel

from rewards import PickScore
from tests.rewards.conftest import (
    PROMPTS,
    SIZE,
    Files,
    built,
    official_pixels,
    raw_embeddings,
    smooth,
)


@pytest.fixture(scope="module", params=["clip_folder", "legacy_folder"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP model with a logit scale of 3."""
    target = tmp_path_factory.mktemp("pick")
    shutil.copytree(request.getfixturevalue(request.param), target, dirs_exist_ok=True)
    network = CLIPModel.from_pretrained(target)
    network.logit_scale.data.fill_(3.0)
    network.save_pretrained(target)
    return str(target)


# Resized pixels are rounded to 8 bits by PIL: at most 0.06 points on these, that spread over 8 and more.
@pytest.mark.parametrize(
    ("shape", "slack"), [((SIZE, SIZE), 1e-4), ((64, 64), 0.15), ((50, 75), 0.15), ((75, 51), 0.15), ((12, 9), 0.15)]
)
def test_the_papers_formula(folder: str, shape: tuple[int, int], slack: float) -> None:
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


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), scale=st.floats(-2, 4.6052))
def test_it_is_clip_score_in_another_unit(files: Files, seed: int, scale: float) -> None:
    pick, images = (
        copy.deepcopy(built("pick", files)),
        torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)),
    )
    pick.networks[0].logit_scale.data.fill_(scale)
    unit = torch.tensor(scale).exp()
    scores = pick.score(images, PROMPTS)
    assert scores.abs().max() <= unit * (1 + 1e-5)
    torch.testing.assert_close(scores, unit * built("clip", files).score(images, PROMPTS) / 100, rtol=1e-4, atol=1e-4)
