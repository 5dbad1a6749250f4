"""Where networks come from and what is refused, for every reward that has a CLIP network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, CLIPModel

from rewards import CLIPScore, HPSv2, PickScore, Reward
from rewards.builtin import BuiltinFolder
from rewards.networks.clip import CLIP_H
from tests.rewards.conftest import PROMPTS, SIZE, Files, built, copied, one_line, save_tiny_clip, smooth

Make = Callable[..., Reward]
NOTE = {"format": "pt"}


@contextmanager
def one_line_alone(error: type[Exception], message: str) -> Iterator[None]:
    """Expect an error of one line, above which no other error is shown, or one that is its cause."""
    with one_line(error, message) as caught:
        yield
    assert (caught.value.__cause__ or caught.value.__suppress_context__) is not None


@pytest.fixture(scope="module")
def other_mean(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP model whose image preprocessing subtracts 0.1."""
    return save_tiny_clip(tmp_path_factory.mktemp("other"), image_mean=[0.1] * 3)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Put a folder into an offline hub cache, as the given commit and main branch of a repository."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(repository: str, folder: str, commit: str) -> None:
        cached = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / commit)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / "main").write_text(commit)

    return add


def test_preprocessing_of_2022_is_read(make_network_reward: Make, legacy_folder: str) -> None:
    reward = make_network_reward(legacy_folder)
    pixels = reward._pixels
    assert (pixels.mean, pixels.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert (pixels.crop, pixels.size) == ((SIZE, SIZE), SIZE)
    assert reward.score(smooth(24, 20), PROMPTS).isfinite().all()


def test_builtin_names_resolve(clip_folder: str, tmp_path: Path) -> None:
    shelf = BuiltinFolder(tmp_path / "package", "checkpoints", "config.json")
    checkout, wheel = tmp_path / "checkpoints", tmp_path / "package" / "checkpoints"
    assert shelf.find("mini") is None
    shutil.copytree(clip_folder, checkout / "mini")
    assert shelf.find("mini") == checkout / "mini"
    assert shelf.names() == ["mini"]
    shutil.copytree(clip_folder, wheel / "mini")
    assert shelf.find("mini") == wheel / "mini"
    assert shelf.find("../checkpoints/mini") is None


def test_a_revision_is_the_one_that_is_loaded(
    make_network_reward: Make, hub: Callable, clip_folder: str, tmp_path: Path
) -> None:
    new, network = str(copied(clip_folder, tmp_path / "new")), CLIPModel.from_pretrained(clip_folder)
    network.visual_projection.weight.data = network.visual_projection.weight.flip(0)
    network.save_pretrained(new)
    hub("someone/clip", clip_folder, "a" * 40)
    hub("someone/clip", new, "b" * 40)
    hub(CLIP_H, clip_folder, "c" * 40)
    images = smooth(20, 20)
    expected_old, expected_new = (make_network_reward(folder).score(images, PROMPTS) for folder in (clip_folder, new))
    assert (expected_old - expected_new).abs().max() > 0.1
    for revision, expected in {"a" * 40: expected_old, "b" * 40: expected_new, None: expected_new}.items():
        scores = make_network_reward("someone/clip", revision=revision).score(images, PROMPTS)
        torch.testing.assert_close(scores, expected, rtol=0, atol=0)
    for name, options in {"someone/clip' at revision 'v9'": {"revision": "v9"}, "nobody/nothing": {}}.items():
        with one_line_alone(FileNotFoundError, name):
            make_network_reward(name.partition("'")[0], **options)


@pytest.mark.parametrize("kind", [CLIPScore, PickScore, HPSv2])
def test_a_processor_of_another_model(
    kind: type, hub: Callable, clip_folder: str, other_mean: str, tmp_path: Path
) -> None:
    bare = copied(clip_folder, tmp_path / "bare", "*processor*", "*token*")
    hub("someone/bare", str(bare), "a" * 40)
    hub("someone/processor", clip_folder, "b" * 40)
    hub("someone/processor", other_mean, "c" * 40)
    images = smooth(20, 20)
    expected = kind(clip_folder).score(images, PROMPTS)
    for source in ({"processor": clip_folder}, {"processor": "someone/processor", "processor_revision": "b" * 40}):
        for model in (bare, "someone/bare"):
            torch.testing.assert_close(kind(model, **source).score(images, PROMPTS), expected, rtol=0, atol=0)
    assert kind(bare, processor="someone/processor")._pixels.mean == (0.1,) * 3


@pytest.mark.parametrize("kind", [PickScore, HPSv2])
def test_models_of_the_hub_take_the_official_processor(
    kind: type, hub: Callable, clip_folder: str, other_mean: str
) -> None:
    hub("someone/clip", other_mean, "a" * 40)
    with one_line_alone(FileNotFoundError, f"model '{CLIP_H}' can't be downloaded: .*HF_HUB_OFFLINE"):
        kind("someone/clip")
    hub(CLIP_H, clip_folder, "b" * 40)
    assert kind("someone/clip")._pixels.mean != (0.1,) * 3
    assert CLIPScore("someone/clip")._pixels.mean == (0.1,) * 3


@pytest.mark.parametrize("name", ["no-such-name", "./no/folder", "/no/folder", "far/too/deep"])
def test_missing_model_lists_the_builtin_ones(
    make_network_reward: Make, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints" / "tiny-clip").mkdir(parents=True)
    (tmp_path / "checkpoints" / "tiny-clip" / "config.json").touch()
    shelf = BuiltinFolder(tmp_path / "package", "checkpoints", "config.json")
    monkeypatch.setattr("rewards.networks.source.CLIP_MODELS", shelf)
    with one_line(FileNotFoundError, f"{name}.*tiny-clip"):
        make_network_reward(name)


def test_pickles_are_refused(make_network_reward: Make, tmp_path: Path, clip_folder: str, hub: Callable) -> None:
    folder = copied(clip_folder, tmp_path / "pickled", "*.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    hub("someone/pickled", str(folder), "a" * 40)
    for model in (folder, "someone/pickled"):
        with one_line(ValueError, r"pickled holds no safetensors.*save_pretrained"):
            make_network_reward(model)


def test_folders_that_lack_something_are_refused(make_network_reward: Make, tmp_path: Path, clip_folder: str) -> None:
    folder = copied(clip_folder, tmp_path / "bert")
    BertConfig().save_pretrained(folder)
    with pytest.raises(ValueError, match="bert is a bert model"):
        make_network_reward(folder)
    folder = copied(clip_folder, tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    save_file({key: weights[key] for key in weights if "visual_proj" not in key}, folder / "model.safetensors", NOTE)
    with pytest.raises(ValueError, match=r"lacks weights, visual_projection\.weight"):
        make_network_reward(folder)
    with one_line_alone(FileNotFoundError, "bare lacks its tokenizer or its image preprocessing"):
        make_network_reward(copied(clip_folder, tmp_path / "bare", "*processor*"))


@pytest.mark.parametrize(
    ("weight", "dtype"), [(torch.nan, "float32"), (-torch.inf, "bfloat16"), (1e6, "float16")], ids=str
)
def test_weights_that_are_not_finite_are_refused(
    make_network_reward: Make, tmp_path: Path, clip_folder: str, weight: float, dtype: str
) -> None:
    folder = copied(clip_folder, tmp_path / "odd")
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][1, 2] = weight
    save_file(weights, folder / "model.safetensors", NOTE)
    with one_line(ValueError, rf"NaN or infinite in {dtype}, visual_projection\.weight"):
        make_network_reward(folder, dtype=dtype)


def test_the_image_tower_alone_is_that_of_the_complete_network(files: Files) -> None:
    tower = built("aesthetic", files).networks[0]
    complete = CLIPModel.from_pretrained(files.clip).state_dict()
    assert all(key.startswith("vis") for key in tower.state_dict())
    for key, weight in tower.state_dict().items():
        torch.testing.assert_close(weight, complete[key], rtol=0, atol=0)
