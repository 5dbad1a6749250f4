"""CLIPScore, PickScore and AestheticScore against their published formulas behind the official preprocessing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from benchmarks.reward_networks import head_weights
from rewards import AestheticScore, CLIPScore, PickScore, Reward
from tests.rewards.conftest import (
    LENGTH,
    PROMPTS,
    SIZE,
    WIDTH,
    Files,
    built,
    copied,
    official_network,
    official_pixels,
    pictures,
    raw_embeddings,
    save_tiny_clip,
    save_tiny_siglip,
    smooth,
    tokens_of,
)

HEAD = head_weights(WIDTH)


def clip_by_its_logits(folder: str, images: Tensor) -> Tensor:
    network = official_network(folder)
    with torch.no_grad():
        out = network(pixel_values=official_pixels(folder, images), **tokens_of(PROMPTS))
        return 100 * (out.logits_per_image / network.logit_scale.exp()).diagonal()


def siglip_by_its_logits(folder: str, images: Tensor) -> Tensor:
    network = SiglipModel.from_pretrained(folder)
    pixels = SiglipImageProcessorPil.from_pretrained(folder)(pictures(images), return_tensors="pt").pixel_values
    options = {"padding": "max_length", "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPTS, **options)
    with torch.no_grad():
        logits = network(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image.diagonal()
        return 100 * (logits - network.logit_bias) / network.logit_scale.exp()


def pick_by_embeddings(folder: str, images: Tensor) -> Tensor:
    seen, read = raw_embeddings(folder, official_pixels(folder, images), PROMPTS)
    return torch.tensor(3.0).exp() * (seen * read).sum(-1)


@cache
def official_mlp() -> nn.ModuleDict:
    """The module whose ``state_dict`` the official file is."""
    linear, drop = nn.Linear, nn.Dropout
    first = (linear(WIDTH, 1024), drop(0.2), linear(1024, 128), drop(0.2), linear(128, 64), drop(0.1))
    mlp = nn.ModuleDict({"layers": nn.Sequential(*first, linear(64, 16), linear(16, 1))}).eval()
    mlp.load_state_dict(HEAD)
    return mlp


def aesthetic_by_the_mlp(folder: str, images: Tensor) -> Tensor:
    seen, _ = raw_embeddings(folder, official_pixels(folder, images), PROMPTS)
    with torch.no_grad():
        return official_mlp()["layers"](seen).squeeze(1)


class Formula(NamedTuple):
    """A reward, its published formula, the least spread of its scores, and their largest errors by kind of resizing."""

    score: Callable[[str, Tensor], Tensor]
    make: Callable[[str, str], Reward]
    spread: float
    exact: float
    resized: float  # PIL rounds resized pixels to 8 bits
    enlarged: float  # PIL also cuts off what overshoots, as it enlarges images


CLIP = Formula(clip_by_its_logits, lambda folder, head: CLIPScore(folder), 3, 1e-3, 0.5, 0.5)
SIGLIP = Formula(siglip_by_its_logits, lambda folder, head: CLIPScore(folder), 3, 1e-3, 0.6, 1.0)
PICK = Formula(pick_by_embeddings, lambda folder, head: PickScore(folder), 1, 1e-4, 0.15, 0.15)
MLP = Formula(aesthetic_by_the_mlp, lambda folder, head: AestheticScore(folder, head=head), 0.1, 1e-4, 0.1, 0.1)
ROWS = {
    "clip": (CLIP, "clip_folder"), "siglip, bilinear": (SIGLIP, "bilinear"), "siglip, bicubic": (SIGLIP, "bicubic"),
    "pick": (PICK, "clip of scale 3"), "pick of 2022": (PICK, "legacy of scale 3"),
    "aesthetic": (MLP, "clip_folder"), "aesthetic of 2022": (MLP, "legacy_folder"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(clip_folder: str, legacy_folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models by name: SigLIP with either interpolation, CLIP with either preprocessing and logit scales of 3."""
    target = tmp_path_factory.mktemp("formulas")
    folders = {"clip_folder": clip_folder, "legacy_folder": legacy_folder}
    for name, resample in {"bilinear": 2, "bicubic": 3}.items():
        folders[name] = save_tiny_siglip(target / name, resample=resample)
    for name, folder in {"clip of scale 3": clip_folder, "legacy of scale 3": legacy_folder}.items():
        network = CLIPModel.from_pretrained(folder)
        network.logit_scale.data.fill_(3.0)
        folders[name] = str(copied(folder, target / name))
        network.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest, folders: dict[str, str], files: Files) -> tuple[Formula, str, Reward]:
    """A formula, a folder and the reward of it."""
    formula, name = ROWS[request.param]
    return formula, folders[name], formula.make(folders[name], files.head)


UNRESIZED = [(SIZE, SIZE), (SIZE, 2 * SIZE + 1), (2 * SIZE + 1, SIZE)]  # CLIP crops them at most
SHAPES = [*UNRESIZED, (64, 64), (50, 75), (75, 51), (12, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_published_formula(row: tuple[Formula, str, Reward], shape: tuple[int, int]) -> None:
    formula, folder, reward = row
    images = smooth(*shape)
    expected = formula.score(folder, images)
    assert expected.std() > formula.spread
    untouched = UNRESIZED[:1] if formula is SIGLIP else UNRESIZED
    slack = formula.exact if shape in untouched else formula.enlarged if min(shape) <= SIZE else formula.resized
    torch.testing.assert_close(reward.score(images, PROMPTS), expected, rtol=0, atol=slack)


def test_hard_edges_do_not_overshoot(files: Files) -> None:
    images = (smooth(48, 48) > 0.5).float()
    expected = clip_by_its_logits(files.clip, images)
    torch.testing.assert_close(built("clip", files).score(images, PROMPTS), expected, rtol=0, atol=0.6)


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
    folder, images = save_tiny_clip(tmp_path, **options), smooth(19, 26)
    scores = CLIPScore(folder).score(images, PROMPTS)
    torch.testing.assert_close(scores, clip_by_its_logits(folder, images), rtol=0, atol=0.5)


def test_a_difference_of_pick_scores_is_the_log_odds_of_the_network(files: Files) -> None:
    images, pick = smooth(SIZE, SIZE)[:2], built("pick", files)
    first, second = pick.score(images, ["cat"] * 2)
    tokens = pick._tokenizer(["cat"], return_tensors="pt")
    with torch.no_grad():
        out = official_network(files.clip)(pixel_values=official_pixels(files.clip, images), **tokens)
    odds = out.logits_per_text.log_softmax(-1)[0]
    torch.testing.assert_close(first - second, odds[0] - odds[1], rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), scale=st.floats(-2, 4.6052))
def test_pick_score_is_clip_score_in_another_unit(files: Files, seed: int, scale: float) -> None:
    pick = copy.deepcopy(built("pick", files))
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    pick.networks[0].logit_scale.data.fill_(scale)
    unit = torch.tensor(scale).exp()
    scores = pick.score(images, PROMPTS)
    assert scores.abs().max() <= unit * (1 + 1e-5)
    torch.testing.assert_close(scores, unit * built("clip", files).score(images, PROMPTS) / 100, rtol=1e-4, atol=1e-4)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_clip_score_of_a_siglip_ranks_as_its_probability(files: Files, seed: int) -> None:
    images = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255
    reward, prompts = built("siglip", files), ["a cat"] * 6
    network, pixels = reward.networks[0], reward._pixels(images)
    tokens = reward._tokenizer(prompts[:1], padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = network(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image.squeeze(1)
    probabilities = (network.logit_scale.exp() * reward.score(images, prompts) / 100 + network.logit_bias).sigmoid()
    torch.testing.assert_close(probabilities, logits.sigmoid(), rtol=1e-4, atol=1e-5)


def test_the_mlp_is_one_affine_map_of_the_embedding_alone(files: Files) -> None:
    layers = AestheticScore(files.clip, head=files.head, dtype="float64").networks[1]
    left, right = torch.randn(2, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layers(0.3 * left + 0.7 * right), 0.3 * layers(left) + 0.7 * layers(right))
    assert {name: weight.shape for name, weight in layers.state_dict().items()} == {
        name.removeprefix("layers."): weight.shape for name, weight in HEAD.items()
    }
    reward, images = built("aesthetic", files), smooth(SIZE, SIZE)
    torch.testing.assert_close(reward.score(images, PROMPTS), reward.score(images, [""] * 4), rtol=0, atol=0)
