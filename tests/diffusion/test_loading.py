"""Loading a pipeline, or one line that says why it can't be loaded."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file

from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.loading.options import DTYPES, Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import tiny_pipeline

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 5.0, "eta": 1.0}


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "edited"))


def test_a_saved_pipeline_loads_and_predicts_and_decodes_the_same(plain: PipelineBackbone) -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    saved, made = (backbone.bind("cat", **OPTIONS) for backbone in (plain, StableDiffusion(tiny_pipeline())))
    assert saved.kernel == made.kernel
    for level in range(3):
        torch.testing.assert_close(saved.denoise(x, level), made.denoise(x, level))
    torch.testing.assert_close(saved.decode(x), made.decode(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_networks_have_the_precision_asked_for_and_latents_stay_float32(pipeline_folder: Path, dtype: str) -> None:
    backbone = load_backbone(str(pipeline_folder), Loading(dtype=dtype, height=24))
    assert {weight.dtype for weight in backbone.parameters()} == {DTYPES[dtype]}
    denoiser = backbone.bind("cat", **OPTIONS)
    assert denoiser.shape == (4, 12, 8)
    if dtype != "float16":  # slow on a CPU
        x = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(0))
        assert {part.dtype for part in denoiser.denoise(x, 0)} == {torch.float32}
        assert denoiser.decode(x).dtype == torch.float32


def refused(pipeline: str, error: type[Exception], message: str, **options: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load_backbone(pipeline, Loading(**options))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("tiny-animalz", FileNotFoundError, "no pipeline 'tiny-animalz'")
    refused("/no/such/folder", FileNotFoundError, "no pipeline '/no/such/folder' .*no such folder")
    refused("no-such/hub-id", FileNotFoundError, "no pipeline 'no-such/hub-id' .*hub")


def test_a_folder_without_an_index_is_named(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    refused(str(folder), FileNotFoundError, "edited' .*no model_index.json")


def test_a_pipeline_class_without_backbone_is_named(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "KolorsPipeline"}))
    refused(
        str(folder),
        ValueError,
        "is a KolorsPipeline, which has no backbone: use Flux2KleinPipeline, .*StableDiffusionPipeline.*adding-a-model",
    )


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_a_pickle_is_never_opened(folder: Path, part: str) -> None:
    weights = folder / f"{part}.safetensors"
    pickle = weights.with_name("pytorch_model.bin")
    torch.save(load_file(weights), pickle)
    weights.unlink()
    refused(str(folder), ValueError, f"{part.split('/')[0]} holds pytorch_model.bin, a pickle, and no safetensors")


def test_an_unknown_precision_is_named(pipeline_folder: Path) -> None:
    refused(str(pipeline_folder), ValueError, "dtype is 'fp8': choose one of float32, bfloat16, float16", dtype="fp8")


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
