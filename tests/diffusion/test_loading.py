"""Loading a pipeline, or one line that names what is missing or damaged and says what to do about it."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.loading.options import DTYPES
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import load, refused, tiny_pipeline
from tests.samplers.toys import normal

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
OPTIONS = {"num_inference_steps": 3, "guidance_scale": 5.0, "eta": 1.0}


def test_a_saved_pipeline_loads_and_predicts_and_decodes_the_same(plain: PipelineBackbone) -> None:
    x = normal(2, 4, 8, 8)
    saved, made = (backbone.bind("cat", **OPTIONS) for backbone in (plain, StableDiffusion(tiny_pipeline())))
    assert saved.kernel == made.kernel
    for level in range(3):
        torch.testing.assert_close(saved.denoise(x, level), made.denoise(x, level))
    torch.testing.assert_close(saved.decode(x), made.decode(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_networks_have_the_precision_asked_for_and_latents_stay_float32(pipeline_folder: Path, dtype: str) -> None:
    backbone = load(pipeline_folder, dtype=dtype, height=24)
    assert {weight.dtype for weight in backbone.parameters()} == {DTYPES[dtype]}
    denoiser = backbone.bind("cat", **OPTIONS)
    assert denoiser.shape == (4, 12, 8)
    if dtype != "float16":  # slow on a CPU
        x = normal(1, 4, 12, 8)
        assert {component.dtype for component in denoiser.denoise(x, 0)} == {torch.float32}
        assert denoiser.decode(x).dtype == torch.float32


@pytest.mark.parametrize(
    "entries",
    [
        {"_class_name": 3},
        *({"unet": value} for value in (3, "x", ["diffusers"], [1, 2], {"a": 1}, [None, None], None)),
        *({"scheduler": [None, 3]}, {"text_encoder": ["transformers"]}),
    ],
)
def test_a_malformed_index_is_named(pipeline_folder: Path, tmp_path: Path, entries: dict) -> None:
    index = shutil.copytree(pipeline_folder, tmp_path / "edited") / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))
    ((name, value),) = entries.items()
    said = re.escape(f"{value!s} is no {name.strip('_').replace('_', ' ')}")
    with pytest.raises(ValueError, match=rf"model_index\.json is damaged \({said}\): get it anew"):
        load(tmp_path / "edited")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tiny-animalz", "no pipeline 'tiny-animalz'"),
        ("/no/such/folder", "no pipeline '/no/such/folder' .*no such folder"),
        ("no-such/hub-id", "pipeline 'no-such/hub-id' can't be downloaded: the cache lacks it, and HF_HUB_OFFLINE"),
        ("a/b@v2", "no pipeline 'a/b@v2' .*the revision of a pipeline has a key of its own, loading.revision"),
    ],
)
def test_an_unknown_name_is_named(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused(source, FileNotFoundError, message)


def test_a_folder_without_an_index_and_a_pipeline_class_without_backbone_are_named(edited: Path) -> None:
    index = edited / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "KolorsPipeline"}))
    known = "use Flux2KleinPipeline, .*StableDiffusionPipeline.*adding-a-model"
    refused(edited, ValueError, f"is a KolorsPipeline, which has no backbone: {known}")
    index.unlink()
    refused(edited, FileNotFoundError, "edited' .*no model_index.json")


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_a_pickle_is_never_opened(edited: Path, file: str) -> None:
    weights = edited / f"{file}.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    refused(edited, ValueError, f"{file.split('/')[0]} holds pytorch_model.bin, a pickle, and no safetensors")


def test_words_beyond_the_text_encoder_s_length_are_dropped_with_a_warning(plain: PipelineBackbone) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("diffusers").addHandler(handler)
    try:
        plain.bind("cat " * 14, **OPTIONS)
        assert not records
        plain.bind("cat " * 15, **OPTIONS)
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert ["truncated" in record.getMessage() for record in records] == [True]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


TEXT_FILES = {
    "model_index.json": None,
    "unet/config.json": "unet lacks config.json",
    "text_encoder/config.json": "text_encoder lacks config.json",
    "scheduler/scheduler_config.json": "scheduler lacks scheduler_config.json",
    "tokenizer/tokenizer.json": "tokenizer lacks .*tokenizer.json",
    "tokenizer/tokenizer_config.json": None,
}
"""Message for each text file where it is missing; None where the pipeline loads without it or is none."""
WEIGHTS = {UNET: r"unet lacks \*\.safetensors", TEXT: r"text_encoder lacks \*\.safetensors"}


@pytest.mark.parametrize("file", TEXT_FILES)
@pytest.mark.parametrize("damage", [cut, lambda file: file.write_bytes(b'{"a": "\xff"}')], ids=["cut off", "no text"])
def test_a_damaged_config_or_vocabulary_is_named(file: str, damage: Callable[[Path], None], edited: Path) -> None:
    damage(edited / file)
    refused(edited, ValueError, f"^{edited / file} is damaged .*: get it anew")


@pytest.mark.parametrize(("file", "lacks"), [row for row in (TEXT_FILES | WEIGHTS).items() if row[1] is not None])
def test_a_missing_file_is_named(file: str, lacks: str, edited: Path) -> None:
    (edited / file).unlink()
    refused(edited, FileNotFoundError, f"{lacks}.*: get it anew")


@pytest.mark.parametrize("component", ["unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(component: str, edited: Path) -> None:
    shutil.rmtree(edited / component)
    refused(edited, FileNotFoundError, f"edited lacks its folder {component}: get it anew")


def test_what_is_not_loaded_may_be_damaged(edited: Path, tmp_path: Path) -> None:
    shutil.copytree(edited / "unet", tmp_path / "unet")
    cut(edited / "unet" / "config.json")
    (edited / "tokenizer" / "._tokenizer.json").write_bytes(b"\xff")
    load(edited, network=str(tmp_path / "unet"))


@pytest.mark.parametrize("file", [UNET, TEXT])
def test_a_shard_that_an_index_names_and_isn_t_there_is_named(file: str, edited: Path) -> None:
    complete = edited / file
    weights, shard = load_file(complete), complete.with_name(f"{complete.stem}-00002-of-00002.safetensors")
    save_file(weights, complete.with_name(f"{complete.stem}-00001-of-00002.safetensors"), {"format": "pt"})
    complete.unlink()
    index = {"weight_map": dict.fromkeys(weights, shard.name), "metadata": {"total_size": 1}}
    complete.with_name(f"{complete.name}.index.json").write_text(json.dumps(index))
    refused(edited, FileNotFoundError, f"{shard.name}.*get it anew")


@pytest.mark.parametrize(("file", "kind"), [(UNET, "UNet2DConditionModel"), (TEXT, "CLIPTextModel")])
def test_weights_with_holes_are_named_and_not_filled_at_random(file: str, kind: str, edited: Path) -> None:
    weights = load_file(edited / file)
    del weights[sorted(weights)[0]]
    save_file(weights, edited / file, {"format": "pt"})
    refused(edited, ValueError, f"edited' lacks weights, get it anew: .*{kind}")


@pytest.mark.parametrize(
    ("component", "entry"), [("unet", "cross_attention_dim"), ("text_encoder", "intermediate_size")]
)
def test_a_config_of_another_model_than_the_weights_is_named(component: str, entry: str, edited: Path) -> None:
    file = edited / component / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {entry: 2 * config[entry]}))
    refused(edited, ValueError, f"edited' can't be loaded: .*({component}|attn2)")


def test_a_single_file_and_an_index_of_something_else_are_named(edited: Path) -> None:
    (edited / "model_index.json").write_text("[]")
    refused(edited, ValueError, "model_index.json is damaged .*: get it anew")
    refused(edited / UNET, FileNotFoundError, "a file: diffusers' from_single_file and save_pretrained make a")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.LocalEntryNotFoundError, "pipeline 'user/name' can't be downloaded: the hub can't be reached"),
        (errors.HfHubHTTPError, "pipeline 'user/name' can't be downloaded: the hub refuses it"),
        (PermissionError, r"no pipeline 'user/name' \(PermissionError\)"),
    ],
)
def test_the_reason_of_the_hub_is_said(kind: type[Exception], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    refused("user/name", FileNotFoundError, reason)
