"""An incomplete pipeline is named, with what to do about it; each is a damaged copy of the builtin one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from diffusers import configuration_utils
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from srsoup_lightning.builtin import PIPELINES
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from tests.diffusion.test_loading import refused

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PIPELINES.find("tiny-animals"), tmp_path / "animals"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ],
)
@pytest.mark.parametrize("damage", [cut, lambda file: file.write_bytes(b'{"a": "\xff"}')], ids=["cut off", "no text"])
def test_a_damaged_config_or_vocabulary_is_named(file: str, damage: Callable[[Path], None], animals: Path) -> None:
    damage(animals / file)
    refused(str(animals), ValueError, f"^{animals / file} is damaged .*: get it anew")


def test_an_index_of_something_else_is_named(animals: Path) -> None:
    (animals / "model_index.json").write_text("[]")
    refused(str(animals), ValueError, "model_index.json is damaged .*: get it anew")


@pytest.mark.parametrize(
    ("file", "lacks"),
    [
        ("unet/config.json", "unet lacks config.json"),
        ("text_encoder/config.json", "text_encoder lacks config.json"),
        ("scheduler/scheduler_config.json", "scheduler lacks scheduler_config.json"),
        ("tokenizer/tokenizer.json", "tokenizer lacks .*tokenizer.json"),
        (UNET, r"unet lacks \*\.safetensors"),
        (TEXT, r"text_encoder lacks \*\.safetensors"),
    ],
)
def test_a_missing_file_is_named(file: str, lacks: str, animals: Path) -> None:
    (animals / file).unlink()
    refused(str(animals), FileNotFoundError, f"{lacks}.*: get it anew")


@pytest.mark.parametrize("part", ["unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(part: str, animals: Path) -> None:
    shutil.rmtree(animals / part)
    refused(str(animals), FileNotFoundError, f"animals lacks its folder {part}: get it anew")


def test_what_is_not_loaded_may_be_damaged(animals: Path, tmp_path: Path) -> None:
    shutil.copytree(animals / "unet", tmp_path / "unet")
    cut(animals / "unet" / "config.json")
    (animals / "tokenizer" / "._tokenizer.json").write_bytes(b"\xff")
    load_backbone(str(animals), Loading(network=str(tmp_path / "unet")))


@pytest.mark.parametrize("file", [UNET, TEXT])
def test_a_shard_that_an_index_names_and_isn_t_there_is_named(file: str, animals: Path) -> None:
    complete = animals / file
    weights, shard = load_file(complete), complete.with_name(f"{complete.stem}-00002-of-00002.safetensors")
    save_file(weights, complete.with_name(f"{complete.stem}-00001-of-00002.safetensors"), {"format": "pt"})
    complete.unlink()
    index = {"weight_map": dict.fromkeys(weights, shard.name), "metadata": {"total_size": 1}}
    complete.with_name(f"{complete.name}.index.json").write_text(json.dumps(index))
    refused(str(animals), FileNotFoundError, f"{shard.name}.*get it anew")


@pytest.mark.parametrize(("file", "kind"), [(UNET, "UNet2DConditionModel"), (TEXT, "CLIPTextModel")])
def test_weights_with_holes_are_named_and_not_filled_at_random(file: str, kind: str, animals: Path) -> None:
    weights = load_file(animals / file)
    del weights[sorted(weights)[0]]
    save_file(weights, animals / file, {"format": "pt"})
    refused(str(animals), ValueError, f"animals' lacks weights, get it anew: .*{kind}")


@pytest.mark.parametrize(("part", "entry"), [("unet", "cross_attention_dim"), ("text_encoder", "intermediate_size")])
def test_a_config_of_another_model_than_the_weights_is_named(part: str, entry: str, animals: Path) -> None:
    file = animals / part / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {entry: 2 * config[entry]}))
    refused(str(animals), ValueError, f"animals' can't be loaded: .*({part}|attn2)")


def test_a_single_file_is_named(animals: Path) -> None:
    refused(str(animals / UNET), FileNotFoundError, "a file: diffusers' from_single_file and save_pretrained make a")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.GatedRepoError, "its licence must be accepted on its page"),
        (errors.RepositoryNotFoundError, "the hub has no such id, or shows it only after `hf auth login`"),
        (errors.RevisionNotFoundError, "the hub has no such revision of it"),
        (errors.LocalEntryNotFoundError, "the hub can't be reached, and the cache doesn't have it"),
        (errors.EntryNotFoundError, "the hub has no model_index.json in it"),
        (OSError, "the hub gives no access to it, Can't load config for 'user/name'"),
    ],
)
def test_the_reason_of_the_hub_is_said(kind: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(configuration_utils, "hf_hub_download", refuse)
    refused("user/name", FileNotFoundError, f"no pipeline 'user/name' \\({reason}")
