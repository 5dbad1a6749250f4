"""Where networks come from and what is refused, for every reward that has a CLIP network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, CLIPModel

from rewards import AestheticScore, CLIPScore, HPSv2, PickScore, Reward
from rewards.builtin import BuiltinFolder
from rewards.networks.clip import CLIP_H
from tests.rewards.conftest import PROMPTS, SIZE, Files, save_tiny_clip, smooth

Make = Callable[..., Reward]


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> bool:
    return "\n" not in str(caught.value) and (caught.value.__cause__ or caught.value.__suppress_context__) is not None


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


def vary(folder: str, target: Path) -> str:
    """A copy whose image projection is another."""
    shutil.copytree(folder, target)
    network = CLIPModel.from_pretrained(folder)
    network.visual_projection.weight.data = network.visual_projection.weight.flip(0)
    network.save_pretrained(target)
    return str(target)


def test_preprocessing_of_2022_is_read(make_network_reward: Make, legacy_folder: str) -> None:
    judge = make_network_reward(legacy_folder)
    assert (judge._pixels.mean, judge._pixels.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert judge._pixels.crop == (SIZE, SIZE)
    assert judge._pixels.size == SIZE
    assert judge.score(smooth(24, 20), PROMPTS).isfinite().all()


def test_shipped_names_resolve(clip_folder: str, tmp_path: Path) -> None:
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
    new = vary(clip_folder, tmp_path / "new")
    hub("someone/clip", clip_folder, "a" * 40)
    hub("someone/clip", new, "b" * 40)
    hub(CLIP_H, clip_folder, "c" * 40)
    images = smooth(20, 20)
    expected_old, expected_new = (make_network_reward(folder).score(images, PROMPTS) for folder in (clip_folder, new))
    assert (expected_old - expected_new).abs().max() > 0.1
    for revision, expected in {"a" * 40: expected_old, "b" * 40: expected_new, None: expected_new}.items():
        scores = make_network_reward("someone/clip", revision=revision).score(images, PROMPTS)
        torch.testing.assert_close(scores, expected, rtol=0, atol=0)
    with pytest.raises(FileNotFoundError, match="someone/clip' at revision 'v9'") as caught:
        make_network_reward("someone/clip", revision="v9")
    assert one_line(caught)


@pytest.mark.parametrize("kind", [CLIPScore, PickScore, HPSv2])
def test_a_processor_of_another_place(kind: type, hub: Callable, clip_folder: str, tmp_path: Path) -> None:
    bare = shutil.copytree(clip_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*processor*", "*token*"))
    hub("someone/bare", str(bare), "a" * 40)
    hub("someone/processor", clip_folder, "b" * 40)
    hub("someone/processor", save_tiny_clip(tmp_path / "other", image_mean=[0.1] * 3), "c" * 40)
    images = smooth(20, 20)
    expected = kind(clip_folder).score(images, PROMPTS)
    for place in ({"processor": clip_folder}, {"processor": "someone/processor", "processor_revision": "b" * 40}):
        for model in (bare, "someone/bare"):
            torch.testing.assert_close(kind(model, **place).score(images, PROMPTS), expected, rtol=0, atol=0)
    assert kind(bare, processor="someone/processor")._pixels.mean == (0.1,) * 3


@pytest.mark.parametrize("kind", [PickScore, HPSv2])
def test_models_of_the_hub_take_the_official_processor(
    kind: type, hub: Callable, clip_folder: str, tmp_path: Path
) -> None:
    hub("someone/clip", save_tiny_clip(tmp_path / "own", image_mean=[0.1] * 3), "a" * 40)
    with pytest.raises(FileNotFoundError, match=f"{CLIP_H} lacks its tokenizer.*processor") as caught:
        kind("someone/clip")
    assert one_line(caught)
    hub(CLIP_H, clip_folder, "b" * 40)
    assert kind("someone/clip")._pixels.mean != (0.1,) * 3
    assert CLIPScore("someone/clip")._pixels.mean == (0.1,) * 3


def test_revisions_that_mean_nothing_are_refused(make_network_reward: Make, clip_folder: str) -> None:
    with pytest.raises(ValueError, match=r"revision is 'v1', but .*leave the revision out"):
        make_network_reward(clip_folder, revision="v1")


@pytest.mark.parametrize("kind", [CLIPScore, PickScore, HPSv2])
def test_a_processor_revision_needs_a_processor(kind: type, clip_folder: str) -> None:
    with pytest.raises(ValueError, match="processor_revision is 'v1' without"):
        kind(clip_folder, processor_revision="v1")


@pytest.mark.parametrize("name", ["no-such-name", "./no/folder", "/no/folder", "far/too/deep"])
def test_missing_model_lists_the_shipped_ones(
    make_network_reward: Make, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints" / "tiny-clip").mkdir(parents=True)
    (tmp_path / "checkpoints" / "tiny-clip" / "config.json").touch()
    shelf = BuiltinFolder(tmp_path / "package", "checkpoints", "config.json")
    monkeypatch.setattr("rewards.networks.source.CLIP_MODELS", shelf)
    with pytest.raises(FileNotFoundError, match=f"{name}.*tiny-clip") as caught:
        make_network_reward(name)
    assert "\n" not in str(caught.value)


def test_unknown_hub_id_is_one_line(make_network_reward: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="nobody/nothing") as caught:
        make_network_reward("nobody/nothing")
    assert one_line(caught)


def test_pickles_are_refused(make_network_reward: Make, tmp_path: Path, clip_folder: str, hub: Callable) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    hub("someone/pickled", str(folder), "a" * 40)
    for model in (folder, "someone/pickled"):
        with pytest.raises(ValueError, match=r"pickled holds no safetensors.*save_pretrained") as caught:
            make_network_reward(model)
        assert "\n" not in str(caught.value)


def test_other_models_are_refused(make_network_reward: Make, tmp_path: Path, clip_folder: str) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "bert")
    BertConfig().save_pretrained(folder)
    with pytest.raises(ValueError, match="bert is a bert model"):
        make_network_reward(folder)


def test_half_a_model_is_refused(make_network_reward: Make, tmp_path: Path) -> None:
    folder = Path(save_tiny_clip(tmp_path))
    network = CLIPModel.from_pretrained(folder)
    weights = {key: weight for key, weight in network.state_dict().items() if not key.startswith("visual_projection")}
    network.save_pretrained(folder, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks weights, visual_projection\.weight"):
        make_network_reward(folder)


@pytest.mark.parametrize(
    ("weight", "dtype"), [(torch.nan, "float32"), (-torch.inf, "bfloat16"), (1e6, "float16")], ids=str
)
def test_weights_that_are_not_finite_are_refused(
    make_network_reward: Make, tmp_path: Path, weight: float, dtype: str
) -> None:
    folder = save_tiny_clip(tmp_path)
    network = CLIPModel.from_pretrained(folder)
    network.visual_projection.weight.data[1, 2] = weight
    network.save_pretrained(folder)
    with pytest.raises(ValueError, match=rf"NaN or infinite in {dtype}, visual_projection\.weight") as caught:
        make_network_reward(folder, dtype=dtype)
    assert "\n" not in str(caught.value)


def test_a_folder_without_preprocessing_is_refused(make_network_reward: Make, tmp_path: Path, clip_folder: str) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*processor*"))
    with pytest.raises(FileNotFoundError, match="bare lacks its tokenizer or its image preprocessing") as caught:
        make_network_reward(folder)
    assert one_line(caught)


def test_bad_dtype(make_network_reward: Make, clip_folder: str) -> None:
    with pytest.raises(ValueError, match=r"'int8'.*float32, bfloat16"):
        make_network_reward(clip_folder, dtype="int8")


def test_the_image_tower_alone_is_that_of_the_whole(files: Files) -> None:
    tower = AestheticScore(files.clip, head=files.head).networks[0]
    whole = CLIPModel.from_pretrained(files.clip).state_dict()
    assert all(key.startswith("vis") for key in tower.state_dict())
    for key, weight in tower.state_dict().items():
        torch.testing.assert_close(weight, whole[key], rtol=0, atol=0)
