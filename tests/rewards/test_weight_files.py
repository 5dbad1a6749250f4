"""Files of weights: a head on the hub, pickles with their checksums, and the files that are refused."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.reward_networks import head_weights
from rewards import AestheticScore, HPSv2, ImageReward, Reward
from tests.rewards.conftest import PROMPTS, SIZE, WIDTH, Files, one_line, smooth
from tests.rewards.test_formulas import HEAD, aesthetic_by_the_mlp
from tests.rewards.test_hps import WEIGHTS as OPEN_CLIP
from tests.rewards.test_hps import WRONG as CLIPS
from tests.rewards.test_image_reward import WEIGHTS as BLIP
from tests.rewards.test_image_reward import WRONG as BLIPS

HEADS = {
    "width": (head_weights(WIDTH + 1), r"layers\.0\.weight of shape \(1024, 9\), want \(1024, 8\)"),
    "lacking": ({key: HEAD[key] for key in HEAD if key != "layers.4.bias"}, r"lacks layers\.4\.bias"),
    "other keys": ({f"mlp.{key}": HEAD[key] for key in HEAD}, r"lacks layers\.0\.weight"),
    "more": (HEAD | {"layers.9.bias": torch.ones(1)}, r"has the unknown key layers\.9\.bias"),
    "nan": (HEAD | {"layers.2.bias": torch.full((128,), torch.nan)}, r"NaN or infinite in float32, 2\.bias"),
    "no tensors": ({"layers": [1, 2]}, "no dictionary of tensors"),
    "nested": ({"state_dict": HEAD}, "no dictionary of tensors"),
}
MAKE: dict[str, Callable[..., Reward]] = {
    "head": lambda files, file, **options: AestheticScore(files.clip, head=file, **options),
    "open_clip": lambda files, file, **options: HPSv2(file, processor=files.clip, **options),
    "blip": lambda files, file, **options: ImageReward(file, tokenizer=files.bert, **options),
}
WEIGHTS = {"head": (HEAD, "head.pth"), "open_clip": (OPEN_CLIP, "HPS.pt"), "blip": (BLIP, "ImageReward.pt")}
MISFITS = [
    pytest.param(name, *row, id=f"{name}: {what}")
    for name, rows in {"head": HEADS, "open_clip": CLIPS, "blip": BLIPS}.items()
    for what, row in rows.items()
]


@pytest.mark.parametrize("name", ["head", "open_clip", "open_clip with notes", "blip"])
def test_a_pickle_scores_as_the_safetensors_and_needs_its_checksum(files: Files, tmp_path: Path, name: str) -> None:
    name, *notes = name.split(" ", 1)
    make, (weights, file) = MAKE[name], WEIGHTS[name]
    safe, pickled = tmp_path / "weights.safetensors", tmp_path / file
    save_file(weights, safe)
    torch.save({"epoch": 3, "name": "x", "state_dict": weights} if notes else weights, pickled)
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


@pytest.mark.parametrize(("name", "weights", "message"), MISFITS)
def test_files_that_do_not_fit(files: Files, tmp_path: Path, name: str, weights: dict, message: str) -> None:
    file = tmp_path / "weights.pt"
    torch.save(weights, file)
    with one_line(ValueError, message):
        MAKE[name](files, file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def test_a_head_on_the_hub(clip_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for commit, sign in {"a" * 40: 1, "b" * 40: -1}.items():
        folder = tmp_path / "models--someone--heads" / "snapshots" / commit / "old"
        folder.mkdir(parents=True)
        save_file(HEAD | {"layers.7.weight": sign * HEAD["layers.7.weight"]}, folder / "h.safetensors")
    images, name = smooth(SIZE, SIZE), "someone/heads/old/h.safetensors"
    scores, other = (
        AestheticScore(clip_folder, head=name, head_revision=letter * 40).score(images, PROMPTS) for letter in "ab"
    )
    torch.testing.assert_close(scores, aesthetic_by_the_mlp(clip_folder, images), rtol=0, atol=1e-4)
    torch.testing.assert_close(other + scores, 2 * HEAD["layers.7.bias"].expand(4), rtol=0, atol=1e-3)
    for missing, reason in {name: "HF_HUB_OFFLINE", "a/b/none.pth": "HF_HUB_OFFLINE", "a/..b/h.pth": "Repo id"}.items():
        with one_line(FileNotFoundError, f"file of weights '{missing}' .*{reason}"):
            AestheticScore(clip_folder, head=missing)


class Bomb:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("exploded"),)


def test_even_a_checked_pickle_runs_no_code(clip_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(HEAD | {"bomb": Bomb()}, file)
    with one_line(ValueError, r"is no \.pth file of tensors"):
        AestheticScore(clip_folder, head=file, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not weights", pickle.dumps({"a": 1}, protocol=2)], ids=["empty", "text", "pickle"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files(clip_folder: str, tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"head{suffix}"
    file.write_bytes(content)
    with one_line(ValueError, r"head\.\w+ (is no \.\w+ file of tensors|holds no dictionary)"):
        AestheticScore(clip_folder, head=file, sha256=hashlib.sha256(content).hexdigest())


def test_other_suffixes(files: Files, tmp_path: Path) -> None:
    shutil.copy(files.head, tmp_path / "head.bin")
    with pytest.raises(ValueError, match=r"head\.bin is of no known format: give a \.safetensors file"):
        AestheticScore(files.clip, head=tmp_path / "head.bin")
