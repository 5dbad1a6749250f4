"""Files of LoRAs that strangers made are checked before diffusers and peft read them."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from srsoup_lightning.diffusion.loading.lora_files import metadata_of, require_simple_patterns
from tests.diffusion.conftest import load, tiny_pipeline
from tests.diffusion.test_loras import save_lora


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": r"(\w+)*x"},
        {"exclude_modules": "(a|a)+$"},
        {"rank_pattern": {".*.*.*.*x": 3}},
        {"alpha_pattern": {"a" * 1_001: 3}},
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(config: dict) -> None:
    with pytest.raises(ValueError, match="may take for ever"):
        require_simple_patterns(config)


@pytest.mark.parametrize(
    "pattern", [r".*\.attn\d\.to_[qkv]$", "to_q", r"(down|up)_blocks\.\d+\..*", r"^transformer_blocks\.(1|2)\..*to_k"]
)
def test_usual_patterns_are_fast_and_pass(pattern: str) -> None:
    require_simple_patterns({"target_modules": pattern, "rank_pattern": {pattern: 4}})
    start = time.perf_counter()
    re.fullmatch(pattern, "down_blocks.1." * 20 + "!")
    assert time.perf_counter() - start < 0.5


def test_a_header_with_a_config_is_read(tmp_path: Path) -> None:
    config = {"transformer.target_modules": r"(\w+)*x", "transformer.r": 4}
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(config)})
    assert metadata_of(tmp_path) == {"target_modules": r"(\w+)*x", "r": 4}
    assert metadata_of(tmp_path / "none") == {}


def test_what_diffusers_warns_of_reaches_the_user(
    pipeline_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_lora(tiny_pipeline(), tmp_path, "unet")
    load(pipeline_folder, loras={str(tmp_path): 1.0})
    assert not caplog.records
    (file,) = tmp_path.glob("*.safetensors")
    weights = load_file(file)
    first = next(name for name in weights if name.endswith("lora_A.weight"))
    save_file(weights | {first.replace("to_", "of_"): weights[first].clone()}, file)
    load(pipeline_folder, loras={str(tmp_path): 1.0})
    assert any("LoRA" in record.getMessage() and "of_" in record.getMessage() for record in caplog.records)


def test_a_folder_with_two_weight_files_is_refused_and_each_file_can_be_named(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lora"
    save_lora(tiny_pipeline(), folder, "unet")
    (file,) = folder.glob("*.safetensors")
    shutil.copy(file, folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"several weight files, other\.safetensors, .*: give the path of one"):
        load(pipeline_folder, loras={str(folder): 1.0})
    load(pipeline_folder, loras={str(folder / "other.safetensors"): 1.0})
