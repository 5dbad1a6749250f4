"""Rewards with networks: precisions, autocast, long prompts, silence, and files of weights as pickles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import logging

from benchmarks.reward_networks import head_weights, image_reward_weights
from rewards import AestheticScore, HPSv2, ImageReward, Reward
from rewards.networks.silence import silence_transformers
from tests.rewards.conftest import BLIP, NETWORKS, PROMPTS, SIZE, WIDTH, Files, built, smooth
from tests.rewards.test_aesthetic import WRONG as HEADS
from tests.rewards.test_hps_file import WEIGHTS as OPEN_CLIP
from tests.rewards.test_hps_file import WRONG as CLIPS
from tests.rewards.test_image_reward import WRONG as BLIPS

SLACK = {
    "clip": {"float64": 1e-3, "float16": 0.7, "bfloat16": 5.0},
    "siglip": {"float64": 1e-3, "float16": 0.7, "bfloat16": 5.0},
    "pick": {"float64": 1e-4, "float16": 0.1, "bfloat16": 0.5},
    "hps": {"float64": 1e-3, "float16": 0.7, "bfloat16": 5.0},
    "aesthetic": {"float64": 1e-4, "float16": 0.02, "bfloat16": 0.1},
    "vqa": {"float64": 1e-5, "float16": 0.01, "bfloat16": 0.1},
    "image": {"float64": 1e-4, "float16": 0.08, "bfloat16": 0.4},
}
"""Largest distance of scores in another precision, in the reward's unit."""


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_other_precisions_are_near(files: Files, name: str, dtype: str) -> None:
    images = smooth(20, 20)
    reward = NETWORKS[name](files, dtype=dtype)
    towers = reward.networks[:2] if name == "image" else reward.networks[:1]
    assert {tower.dtype for tower in towers} == {getattr(torch, dtype)}
    expected = built(name, files).score(images, PROMPTS)
    torch.testing.assert_close(reward.score(images, PROMPTS), expected, rtol=0, atol=SLACK[name][dtype])


def test_autocast_changes_nothing(network_reward: Reward) -> None:
    images = smooth(20, 20)
    network_reward._texts = {}  # embeddings of other batches of prompts differ in the last digit
    outside = network_reward.score(images, PROMPTS)
    network_reward._texts = {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = network_reward.score(images, PROMPTS)
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["clip", "siglip", "pick", "hps"])
def test_long_prompts_are_cut(files: Files, name: str) -> None:
    reward, image, long = built(name, files), smooth(SIZE, SIZE, 1), "a cat " * 50
    torch.testing.assert_close(reward.score(image, [long]), reward.score(image, [long + "dog"]))


@pytest.mark.parametrize("loading_bars", [False, True])
def test_silence_leaves_transformers_as_it_was(loading_bars: bool) -> None:
    def own(bar: type, args: tuple, options: dict) -> object:
        return bar(*args, **options)

    before = logging.set_tqdm_hook(own)
    try:
        with silence_transformers(loading_bars):
            assert logging.get_verbosity() == logging.ERROR
            inside = logging.set_tqdm_hook(own)
            assert (inside is own) is not loading_bars
        assert logging.get_verbosity() == logging.WARNING
        assert logging.set_tqdm_hook(before) is own
    finally:
        logging.set_tqdm_hook(before)


def test_loading_leaves_the_verbosity_alone(network_reward: Reward) -> None:
    assert network_reward.networks
    assert logging.get_verbosity() == logging.WARNING


def with_head(files: Files, file: Path, **options: str) -> Reward:
    return AestheticScore(files.clip, head=file, **options)


def with_open_clip(files: Files, file: Path, **options: str) -> Reward:
    return HPSv2(file, processor=files.clip, **options)


def with_blip(files: Files, file: Path, **options: str) -> Reward:
    return ImageReward(file, tokenizer=files.bert, **options)


WEIGHT_FILES: dict[str, tuple[Callable[..., Reward], dict[str, Tensor], str]] = {
    "aesthetic": (with_head, head_weights(WIDTH), "head.pth"),
    "hps": (with_open_clip, OPEN_CLIP, "HPS.pt"),
    "hps with notes": (with_open_clip, OPEN_CLIP, "HPS.pt"),
    "image": (with_blip, image_reward_weights(BLIP), "ImageReward.pt"),
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_a_pickle_scores_as_the_safetensors_and_needs_its_checksum(files: Files, tmp_path: Path, name: str) -> None:
    make, weights, file = WEIGHT_FILES[name]
    safe, pickled = tmp_path / "weights.safetensors", tmp_path / file
    save_file(weights, safe)
    torch.save({"epoch": 3, "name": "x", "state_dict": weights} if "notes" in name else weights, pickled)
    checksum, images = hashlib.sha256(pickled.read_bytes()).hexdigest(), smooth(20, 30)
    expected = make(files, safe).score(images, PROMPTS)
    for spelling in (checksum, checksum.upper()):
        scores = make(files, pickled, sha256=spelling).score(images, PROMPTS)
        torch.testing.assert_close(scores, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"is a pickle.*sha256sum"):
        make(files, pickled)
    for content, found in ((pickled, checksum), (safe, r"\w{64}")):
        with pytest.raises(ValueError, match=f"has SHA-256 {found}, not {'0' * 64}"):
            make(files, content, sha256="0" * 64)


MISFITS = {
    **{f"head: {name}": (with_head, *row) for name, row in HEADS.items()},
    **{f"open_clip: {name}": (with_open_clip, *row) for name, row in CLIPS.items()},
    **{f"blip: {name}": (with_blip, *row) for name, row in BLIPS.items()},
}


@pytest.mark.parametrize(("make", "weights", "message"), MISFITS.values(), ids=MISFITS)
def test_files_that_do_not_fit(files: Files, tmp_path: Path, make: Callable, weights: dict, message: str) -> None:
    file = tmp_path / "weights.pt"
    torch.save(weights, file)
    with pytest.raises(ValueError, match=message) as caught:
        make(files, file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert "\n" not in str(caught.value)
