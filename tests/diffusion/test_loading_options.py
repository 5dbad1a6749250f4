"""Components from elsewhere, left out, or waiting in main memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from diffusers import (
    LCMScheduler,
    ModelMixin,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from torch import nn

from srsoup_lightning.diffusion.condition import Condition
from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import Schedule
from srsoup_lightning.diffusion.transition import Renoising
from tests.diffusion.conftest import CLASSIC, load, prediction, refused, tiny_pipeline
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import FAMILIES, make

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 1.0, "eta": 1.0}
LOAD = "srsoup_lightning.diffusion.loading.pipeline._load_pipeline"
CONDITION = {"encoder_hidden_states": torch.zeros(1, 16, 32)}
T5 = ("text_encoder_3", "tokenizer_3")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "FLUX.1 schnell"])
def test_every_family_loads_from_its_folder(family: str, saved: Callable[[str], Path]) -> None:
    size = {"height": 16, "width": 16}
    loaded, made = load(saved(family), **size), backbone_of(make(family), **size)
    assert type(loaded) is type(made)
    torch.testing.assert_close(prediction(loaded), prediction(made), rtol=0, atol=1e-4)


def other(component: str) -> ModelMixin:
    """A component like that of the tiny pipeline, with weights of its own."""
    network = getattr(tiny_pipeline(), component)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network


@pytest.mark.parametrize(("option", "component", "kept"), [("network", "unet", "vae"), ("vae", "vae", "unet")])
def test_a_component_is_replaced_and_the_others_stay(
    option: str, component: str, kept: str, pipeline_folder: Path, tmp_path: Path
) -> None:
    replacement = other(component)
    replacement.save_pretrained(tmp_path)
    backbone = load(pipeline_folder, **{option: str(tmp_path)})
    torch.testing.assert_close(getattr(backbone, component).state_dict(), replacement.state_dict())
    torch.testing.assert_close(getattr(backbone, kept).state_dict(), getattr(tiny_pipeline(), kept).state_dict())


def test_sdxl_s_autoencoder_that_is_safe_in_float16_stays_there(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As madebyollin/sdxl-vae-fp16-fix says of itself; the pipeline's own is run in float32."""
    vae = make("SDXL").vae
    vae.register_to_config(force_upcast=False)
    vae.save_pretrained(tmp_path)
    for options, expected in (({"vae": str(tmp_path)}, torch.float16), ({}, torch.float32)):
        backbone = load(saved("SDXL"), dtype="float16", **options)
        assert {weight.dtype for weight in backbone.pipeline.vae.parameters()} == {expected}
        assert backbone.network.dtype == torch.float16


NAMES = {"network": "unet", "vae": "vae", "preview_decoder": "preview decoder"}


@pytest.mark.parametrize("option", NAMES)
def test_a_replacement_that_isn_t_one_is_named_before_the_pipeline_is_loaded(
    option: str, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOAD, lambda *_: pytest.fail("the pipeline was loaded"))
    refused(pipeline_folder, FileNotFoundError, f"no .* '{tmp_path}': give a folder", **{option: str(tmp_path)})
    with monkeypatch.context() as patched:  # of what can't be an id, the hub is not asked
        patched.setattr(ModelMixin, "from_pretrained", lambda *_, **__: pytest.fail("diffusers was asked"))
        for missing in ("no-such", str(tmp_path / "none"), "/no/such", "./no-such", "a/folder/deeper"):
            message = f"no {NAMES[option]} '{missing}': give a folder or hub id"
            refused(pipeline_folder, FileNotFoundError, message, **{option: missing})
    strange = pipeline_folder / ("unet" if option == "vae" else "vae")
    refused(pipeline_folder, ValueError, f"{strange}' is no [AU]\\w+: ", **{option: str(strange)})


def test_a_network_with_holes_or_in_a_pickle_is_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    network, file = other("unet"), tmp_path / "diffusion_pytorch_model.safetensors"
    network.save_pretrained(tmp_path)
    weights = load_file(file)
    del weights["conv_in.bias"]
    save_file(weights, file)
    refused(pipeline_folder, ValueError, "it lacks 1 weights, such as conv_in.bias", network=str(tmp_path))
    file.unlink()
    network.save_pretrained(tmp_path, safe_serialization=False)
    assert file.with_suffix(".bin").is_file()
    refused(pipeline_folder, FileNotFoundError, "no unet .* with safetensors", network=str(tmp_path))


def test_stable_diffusion_3_does_without_its_t5(saved: Callable[[str], Path]) -> None:
    full, less = load(saved("SD 3")), load(saved("SD 3"), omit=T5)
    assert {name: getattr(less.pipeline, name) for name in T5} == dict.fromkeys(T5)
    before, found = prediction(full), prediction(less)
    full.pipeline.register_modules(**dict.fromkeys(T5))
    torch.testing.assert_close(found, prediction(full))
    assert (found - before).abs().max() > 0.01
    assert load(saved("SD 3 without T5")).pipeline.text_encoder_3 is None  # saved so, it needs no option


def test_a_pickle_that_is_not_loaded_is_no_reason_to_refuse(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("SD 3"), tmp_path / "edited"))
    (folder / "checkpoint-100").mkdir()
    (folder / "checkpoint-100" / "optimizer.bin").touch()
    (folder / "text_encoder_3" / "model.safetensors").rename(folder / "text_encoder_3" / "pytorch_model.bin")
    assert load(folder, omit=T5).pipeline.text_encoder_3 is None
    refused(folder, ValueError, "text_encoder_3 holds pytorch_model.bin, a pickle")


def test_a_pickled_censor_is_no_reason_to_refuse(edited: Path) -> None:
    change_index(edited, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    (edited / "safety_checker").mkdir()
    (edited / "safety_checker" / "pytorch_model.bin").touch()
    assert load(edited).pipeline.safety_checker is None


def change_index(folder: Path, **entries: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


class OfThisFile(StableDiffusion):
    """A user's own backbone."""


def test_a_user_s_own_backbone_is_taken(pipeline_folder: Path, edited: Path) -> None:
    own = {"backbone": f"{__name__}.OfThisFile"}
    assert type(load(pipeline_folder, **own)) is OfThisFile
    change_index(edited, _class_name="StableDiffusionImg2ImgPipeline")
    backbone = load(edited, **own)
    assert type(backbone) is OfThisFile
    assert type(backbone.pipeline) is StableDiffusionImg2ImgPipeline
    change_index(edited, _class_name="NextYearsPipeline")
    refused(edited, ValueError, "is a NextYearsPipeline, which diffusers .* doesn't have: update it", **own)


IMPORT, HERE = "can't be imported", __name__
NEEDED = "which no picture is drawn without"
BASE = "srsoup_lightning.diffusion.pipeline_backbone.PipelineBackbone"
SCHEDULER_CLASS = "scheduler names the class {!r}: give one of diffusers'"
BACKBONES = {
    "": IMPORT,
    "OfThisFile": f"{IMPORT} .*: give package.module.Class",
    ".module.Class": IMPORT,
    "no_such_package.module.Class": f"{IMPORT} .*no_such_package",
    f"{HERE}.NoSuchClass": f"{IMPORT} .*NoSuchClass",
    f"{HERE}.Path": f"is no PipelineBackbone: derive it from {BASE}",
    f"{HERE}.make": "is no PipelineBackbone",
}
WRONG: list[tuple[dict[str, object], str]] = [
    *(({"omit": (name,)}, f"omit names '{name}': .* scheduler, .* vae") for name in ("text_encoder_3", "_class_name")),
    *(({"omit": (name,)}, f"omit names '{name}', {NEEDED}") for name in ("unet", "vae")),
    *(({"scheduler": {"_class_name": name}}, SCHEDULER_CLASS.format(name)) for name in ("LCM", "ModelMixin", 3)),
    ({"scheduler": {"spacing": 1}}, "scheduler has no .spacing.: the entries of a DDIMScheduler are .*_spacing"),
    *(({"backbone": path}, f"loading.backbone '{path}' {message}") for path, message in BACKBONES.items()),
    *(({name: "some"}, f"^{name} is 'some': choose one of \\w+, \\w+") for name in ("dtype", "transition", "offload")),
    ({"dtype": "fp8"}, "dtype is 'fp8': choose one of float32, bfloat16, float16"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_option_is_named_before_the_pipeline_is_loaded(
    options: dict[str, object], message: str, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOAD, lambda *_: pytest.fail("the pipeline was loaded"))
    refused(pipeline_folder, ValueError, message, **options)


def test_a_variant_of_the_weights_is_loaded_where_it_is_named(
    pipeline_folder: Path, plain: PipelineBackbone, tmp_path: Path
) -> None:
    tiny_pipeline().save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    variant = load(tmp_path, variant="fp16")
    torch.testing.assert_close(prediction(variant), prediction(plain))
    refused(tmp_path, FileNotFoundError, "no weights for pipeline .* name it as loading.variant")
    refused(pipeline_folder, ValueError, "variant=fp16", variant="fp16")


def test_entries_of_the_scheduler_s_config_are_replaced_and_the_others_stay(pipeline_folder: Path) -> None:
    """Another class over a consistency LoRA, whose pipeline is that of the model below it."""

    def schedule(**scheduler: object) -> Schedule:
        return load(pipeline_folder, scheduler=scheduler).schedule(4, 1.0)

    assert schedule().times == (751, 501, 251, 1)
    assert schedule(timestep_spacing="trailing").times == (999, 749, 499, 249)
    assert schedule(steps_offset=0).times == (750, 500, 250, 0)
    consistency, expected = schedule(_class_name="LCMScheduler"), LCMScheduler(**CLASSIC)
    expected.set_timesteps(4)
    assert consistency.times == tuple(expected.timesteps.tolist())
    assert isinstance(consistency.kernel, Renoising)
    refused(pipeline_folder, ValueError, "makes no DDIMScheduler: wave", scheduler={"beta_schedule": "wave"})


def children(backbone: PipelineBackbone) -> set[str]:
    return {name for name, child in backbone.named_children() if child is not None}


def test_offloaded_text_encoders_encode_the_same_and_wait_in_main_memory(
    pipeline_folder: Path, plain: PipelineBackbone
) -> None:
    backbone = load(pipeline_folder, offload="text_encoders")
    assert children(plain) == {"text_encoder", "unet", "vae"}
    assert children(backbone) == {"unet", "vae"}
    for _ in range(2):  # at every prompt
        torch.testing.assert_close(prediction(backbone), prediction(plain))
    backbone.to("meta")
    assert {backbone.device.type, backbone.network.device.type, backbone.pipeline.vae.device.type} == {"meta"}
    assert backbone.pipeline.text_encoder.device.type == "cpu"


@pytest.mark.parametrize("outcome", [nullcontext(), pytest.raises(LookupError)], ids=["encoded", "failed"])
def test_text_encoders_visit_the_device_while_a_prompt_is_encoded(
    outcome: AbstractContextManager, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, events = load(pipeline_folder, offload="text_encoders"), []

    def encode(*_: object) -> Condition:
        events.append("encode")
        if not isinstance(outcome, nullcontext):
            raise LookupError
        return CONDITION

    monkeypatch.setattr(StableDiffusion, "device", torch.device("meta"))
    monkeypatch.setattr(backbone, "encode_prompt", encode)
    monkeypatch.setattr(backbone.pipeline.text_encoder, "to", lambda device: events.append(torch.device(device).type))
    with outcome:
        backbone.bind("cat", **OPTIONS)
    assert events == ["meta", "encode", "cpu"]


def test_a_complete_pipeline_is_offloaded_from_the_backbone_s_device_once_it_is_known(
    pipeline_folder: Path, plain: PipelineBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(StableDiffusionPipeline, "enable_model_cpu_offload", lambda _, **given: calls.append(given))
    backbone, moved = (load(pipeline_folder, offload="model") for _ in range(2))
    assert children(backbone) == set()
    assert not calls
    torch.testing.assert_close(prediction(backbone), prediction(plain))
    backbone.bind("dog", **OPTIONS)
    assert calls == [{"device": backbone.device}]
    moved.to("meta")
    assert moved.network.device.type == "cpu"
    monkeypatch.setattr(moved, "encode_prompt", lambda *_: CONDITION)
    moved.bind("cat", **OPTIONS)
    assert calls[1:] == [{"device": torch.device("meta")}]
