"""Rewards with networks: precisions, autocast, long prompts, silence, a fresh process, and arguments they refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from rewards import AestheticScore, HPSv2, ImageReward, PickScore, Reward, VQAScore
from rewards.networks.silence import silence_transformers
from tests.rewards.conftest import NETWORKS, PROMPTS, SIZE, Files, built, one_line, smooth

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


CODE = """
import sys, time, torchmetrics
before, start = set(sys.modules), time.process_time()
import rewards
print(time.process_time() - start, *{name.partition(".")[0] for name in set(sys.modules) - before})
import torch
from rewards import *
clip, head, siglip, blip, bert, llava = sys.argv[1:]
loaded = [kind(clip) for kind in (CLIPScore, PickScore, HPSv2)] + [AestheticScore(clip, head=head)]
loaded += [CLIPScore(siglip), ImageReward(blip, tokenizer=bert), VQAScore(llava)]
for reward in loaded:
    reward.score(torch.rand(1, 3, 20, 20), ["cat"])
"""
HEAVY = {"transformers", "diffusers", "lightning", "srsoup_lightning", "httpx2", "anyio", "tenacity", "fastapi"}


def test_the_import_is_light_and_loading_is_silent_in_a_fresh_process(files: Files) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *files], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    seconds, *names = line.split()
    assert not HEAVY & set(names)
    assert float(seconds) < 0.5


def rows(names: str, message: str, **options: str) -> list[tuple[Callable[[Files], Reward], str]]:
    """A row for each of the rewards of these names."""
    return [(lambda files, name=name: NETWORKS[name](files, **options), message) for name in names.split()]


VALUES: list[tuple[Callable[[Files], Reward], str]] = [
    *rows("clip siglip pick hps aesthetic vqa image", "dtype is 'int8'.*float32, bfloat16", dtype="int8"),
    *rows("clip siglip pick hps aesthetic vqa", "revision is 'v1', but .*leave the revision out", revision="v1"),
    *rows("clip siglip pick hps", "processor_revision is 'v1' without", processor_revision="v1"),
    *rows("aesthetic", r"linearMSE\.safetensors is a file .* no revision 'v1': leave that out", head_revision="v1"),
    *rows("hps", "fit is 'squeeze': choose one of pad, crop", fit="squeeze"),
    *rows("hps", "sha256 is for a file, but model is .*: leave it out", sha256="00"),
    *rows("vqa", r"template is 'Is it a cat\?': write \{prompt\} where", template="Is it a cat?"),
    *rows("vqa", "answer is 'Certainly', no single token of .*llava", answer="Certainly"),
    *rows("vqa", r"answer is '\?', no single token", answer="?"),
    (lambda files: PickScore(files.siglip), "is a siglip model: give one of type clip"),
    (lambda files: HPSv2(files.siglip), "is a siglip model: give one of type clip"),
    (lambda files: VQAScore(files.clip), "is a clip model: give one that answers questions"),
    (lambda f: ImageReward(f.blip, tokenizer=f.clip), r"has \d+ tokens and the network 15: give BERT's tokenizer"),
    (lambda files: ImageReward("nowhere.pt", tokenizer=files.bert, dtype="int8"), "dtype is 'int8'"),
]
NO_WEIGHTS = "no file of weights '{}'.*give a local .safetensors, .pth or .pt"
ABSENT: list[tuple[Callable[[Files], Reward], str]] = [
    (lambda files: VQAScore("nowhere"), "no model 'nowhere'"),
    (lambda files: ImageReward("nowhere.pt", tokenizer="nowhere"), "no model 'nowhere'"),
    (lambda files: ImageReward(files.blip, tokenizer=Path(files.blip).parent), "lacks its tokenizer"),
    (lambda files: ImageReward("nowhere.pt", tokenizer=files.bert), NO_WEIGHTS.format("nowhere.pt")),
    (lambda files: HPSv2("nowhere.pt", processor=files.clip, sha256="00"), NO_WEIGHTS.format("nowhere.pt")),
    *[
        (lambda files, head=head: AestheticScore(files.clip, head=head), NO_WEIGHTS.format(head))
        for head in ("head.safetensors", "./a/b/c.pth", "/no/such/file.pth", "one/two.pth")
    ],
]


@pytest.mark.parametrize(
    ("error", "make", "message"),
    [*((ValueError, *row) for row in VALUES), *((FileNotFoundError, *row) for row in ABSENT)],
)
def test_arguments_that_are_refused(
    files: Files, error: type[Exception], make: Callable[[Files], Reward], message: str
) -> None:
    with one_line(error, message):
        make(files)
