"""AestheticScore against the official MLP on raw embeddings, in both file formats, and the heads that it refuses."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.reward_networks import head_weights
from rewards import AestheticScore
from tests.rewards.conftest import (
    PROMPTS,
    SIZE,
    WIDTH,
    Files,
    official_pixels,
    raw_embeddings,
    smooth,
)

HEAD = head_weights(WIDTH)


class OfficialMLP(nn.Module):
    """The class whose ``state_dict`` the official file is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )


def official(folder: str, images: Tensor) -> Tensor:
    mlp = OfficialMLP(WIDTH).eval()
    mlp.load_state_dict(HEAD)
    seen, _ = raw_embeddings(folder, official_pixels(folder, images), PROMPTS)
    with torch.no_grad():
        return mlp.layers(seen).squeeze(1)


def save_pth(folder: Path, head: object = HEAD) -> tuple[str, str]:
    file = folder / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(head, file)
    return str(file), hashlib.sha256(file.read_bytes()).hexdigest()


# Resized pixels are rounded to 8 bits by PIL: at most 0.04 points on these, that spread over 0.4 and more.
@pytest.mark.parametrize(
    ("shape", "slack"), [((SIZE, SIZE), 1e-4), ((64, 64), 0.1), ((50, 75), 0.1), ((75, 51), 0.1), ((12, 9), 0.1)]
)
@pytest.mark.parametrize("name", ["clip_folder", "legacy_folder"])
def test_the_official_formula(
    files: Files, request: pytest.FixtureRequest, shape: tuple[int, int], slack: float, name: str
) -> None:
    folder, images = request.getfixturevalue(name), smooth(*shape)
    expected = official(folder, images)
    assert expected.std() > 0.1
    scores = AestheticScore(folder, head=files.head).score(images, PROMPTS)
    torch.testing.assert_close(scores, expected, rtol=0, atol=slack)


def test_the_mlp_is_one_affine_map_of_the_embedding(files: Files) -> None:
    layers = AestheticScore(files.clip, head=files.head, dtype="float64").networks[1]
    left, right = torch.randn(2, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layers(0.3 * left + 0.7 * right), 0.3 * layers(left) + 0.7 * layers(right))
    assert {name: tuple(weight.shape) for name, weight in layers.state_dict().items()} == {
        name.removeprefix("layers."): tuple(weight.shape) for name, weight in HEAD.items()
    }


def test_the_prompt_plays_no_role(files: Files) -> None:
    judge, images = AestheticScore(files.clip, head=files.head), smooth(SIZE, SIZE)
    torch.testing.assert_close(judge.score(images, PROMPTS), judge.score(images, [""] * 4), rtol=0, atol=0)


def test_a_head_on_the_hub(clip_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / "models--someone--heads" / "snapshots"
    for commit, sign in {"a" * 40: 1, "b" * 40: -1}.items():
        (snapshots / commit / "old").mkdir(parents=True)
        save_file(
            HEAD | {"layers.7.weight": sign * HEAD["layers.7.weight"]}, snapshots / commit / "old" / "h.safetensors"
        )
    images, name = smooth(SIZE, SIZE), "someone/heads/old/h.safetensors"
    scores = AestheticScore(clip_folder, head=name, head_revision="a" * 40).score(images, PROMPTS)
    torch.testing.assert_close(scores, official(clip_folder, images), rtol=0, atol=1e-4)
    other = AestheticScore(clip_folder, head=name, head_revision="b" * 40).score(images, PROMPTS)
    torch.testing.assert_close(other + scores, 2 * HEAD["layers.7.bias"].expand(4), rtol=0, atol=1e-3)
    for missing in (name, "someone/heads/none.pth", "someone/..heads/h.pth"):
        with pytest.raises(FileNotFoundError, match=f"no file of weights '{missing}'") as caught:
            AestheticScore(clip_folder, head=missing)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["head.safetensors", "./a/b/c.pth", "/no/such/file.pth", "one/two.pth"])
def test_a_missing_head(clip_folder: str, head: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"no file of weights '{head}'.*give a local .safetensors, .pth or .pt"):
        AestheticScore(clip_folder, head=head)


class Bomb:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("exploded"),)


def test_even_a_checked_pickle_runs_no_code(clip_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, checksum = save_pth(tmp_path, HEAD | {"bomb": Bomb()})
    with pytest.raises(ValueError, match=r"is no \.pth file of tensors") as caught:
        AestheticScore(clip_folder, head=file, sha256=checksum)
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not weights", pickle.dumps({"a": 1}, protocol=2)], ids=["empty", "text", "pickle"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files(clip_folder: str, tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"head{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"head\.\w+ (is no \.\w+ file of tensors|holds no dictionary)") as caught:
        AestheticScore(clip_folder, head=file, sha256=hashlib.sha256(content).hexdigest())
    assert "\n" not in str(caught.value)


def test_other_suffixes(files: Files, tmp_path: Path) -> None:
    shutil.copy(files.head, tmp_path / "head.bin")
    with pytest.raises(ValueError, match=r"head\.bin is of no known format: give a \.safetensors file"):
        AestheticScore(files.clip, head=tmp_path / "head.bin")


WRONG = {
    "width": (head_weights(WIDTH + 1), r"layers\.0\.weight of shape \(1024, 9\), want \(1024, 8\)"),
    "lacking": ({key: HEAD[key] for key in HEAD if key != "layers.4.bias"}, r"lacks layers\.4\.bias"),
    "other keys": ({f"mlp.{key}": HEAD[key] for key in HEAD}, r"lacks layers\.0\.weight"),
    "more": (HEAD | {"layers.9.bias": torch.ones(1)}, r"has the unknown key layers\.9\.bias"),
    "nan": (HEAD | {"layers.2.bias": torch.full((128,), torch.nan)}, r"NaN or infinite in float32, 2\.bias"),
    "no tensors": ({"layers": [1, 2]}, "no dictionary of tensors"),
    "nested": ({"state_dict": HEAD}, "no dictionary of tensors"),
}


def test_a_revision_of_a_file_is_refused(files: Files) -> None:
    with pytest.raises(ValueError, match=r"linearMSE\.safetensors is a file .* no revision 'v1': leave that out"):
        AestheticScore(files.clip, head=files.head, head_revision="v1")
