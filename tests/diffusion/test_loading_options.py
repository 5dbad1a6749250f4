"""Components from elsewhere, left out, or waiting in main memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LCMScheduler,
    ModelMixin,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from torch import nn

from srsoup_lightning.diffusion.families.stable_diffusion import StableDiffusion
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import Condition, PipelineBackbone
from srsoup_lightning.diffusion.transition import Renoising
from tests.diffusion.conftest import prediction, tiny_pipeline
from tests.diffusion.drawing import backbone_of
from tests.diffusion.pipelines import FAMILIES, make
from tests.diffusion.test_loading import refused

OPTIONS = {"num_inference_steps": 3, "guidance_scale": 1.0, "eta": 1.0}
LOAD = "srsoup_lightning.diffusion.loading.pipeline._load_pipeline"
T5 = ("text_encoder_3", "tokenizer_3")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "FLUX.1 schnell"])
def test_every_family_loads_from_its_folder(family: str, saved: Callable[[str], Path]) -> None:
    size = {"height": 16, "width": 16}
    loaded, made = load_backbone(str(saved(family)), Loading(**size)), backbone_of(make(family), **size)
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
    backbone = load_backbone(str(pipeline_folder), Loading(**{option: str(tmp_path)}))
    torch.testing.assert_close(getattr(backbone, component).state_dict(), replacement.state_dict())
    torch.testing.assert_close(getattr(backbone, kept).state_dict(), getattr(tiny_pipeline(), kept).state_dict())


def test_sdxl_s_autoencoder_that_is_safe_in_float16_stays_there(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As madebyollin/sdxl-vae-fp16-fix says of itself; the pipeline's own is run in float32."""
    vae = make("SDXL").vae
    vae.register_to_config(force_upcast=False)
    vae.save_pretrained(tmp_path)
    for options, expected in (({"vae": str(tmp_path)}, torch.float16), ({}, torch.float32)):
        backbone = load_backbone(str(saved("SDXL")), Loading(dtype="float16", **options))
        assert {weight.dtype for weight in backbone.pipeline.vae.parameters()} == {expected}
        assert backbone.network.dtype == torch.float16


@pytest.mark.parametrize("option", ["network", "vae", "preview_decoder"])
def test_a_replacement_that_isn_t_one_is_named_before_the_pipeline_is_loaded(
    option: str, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOAD, lambda *_: pytest.fail("the pipeline was loaded"))
    refused(str(pipeline_folder), FileNotFoundError, f"no .* '{tmp_path}': give a folder", **{option: str(tmp_path)})
    with monkeypatch.context() as patched:  # of what can't be an id, the hub is not asked
        patched.setattr(ModelMixin, "from_pretrained", lambda *_, **__: pytest.fail("diffusers was asked"))
        for missing in ("no-such-part", str(tmp_path / "none"), "/no/such/part", "./no-such-part", "a/folder/deeper"):
            refused(str(pipeline_folder), FileNotFoundError, f"no .* '{missing}': give a folder", **{option: missing})
    strange = pipeline_folder / ("unet" if option == "vae" else "vae")
    refused(str(pipeline_folder), ValueError, f"{strange}' is no [AU]\\w+: ", **{option: str(strange)})


def test_a_network_with_holes_is_named(pipeline_folder: Path, tmp_path: Path) -> None:
    other("unet").save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.bias"]
    save_file(weights, file)
    refused(str(pipeline_folder), ValueError, "it lacks 1 weights, such as conv_in.bias", network=str(tmp_path))


def test_a_pickled_replacement_is_never_opened(pipeline_folder: Path, tmp_path: Path) -> None:
    other("unet").save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    refused(str(pipeline_folder), FileNotFoundError, "no unet .* with safetensors", network=str(tmp_path))


def test_stable_diffusion_3_does_without_its_t5(saved: Callable[[str], Path]) -> None:
    folder = str(saved("SD 3"))
    full, less = load_backbone(folder), load_backbone(folder, Loading(omit=T5))
    assert {name: getattr(less.pipeline, name) for name in T5} == dict.fromkeys(T5)
    before = prediction(full)
    full.pipeline.register_modules(**dict.fromkeys(T5))
    torch.testing.assert_close(prediction(less), prediction(full))
    assert (prediction(less) - before).abs().max() > 0.01


def test_a_pipeline_saved_without_its_t5_needs_no_word_about_it(saved: Callable[[str], Path]) -> None:
    assert load_backbone(str(saved("SD 3 without T5"))).pipeline.text_encoder_3 is None


def test_a_pickle_that_is_not_loaded_is_no_reason_to_refuse(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("SD 3"), tmp_path / "edited"))
    (folder / "checkpoint-100").mkdir()
    (folder / "checkpoint-100" / "optimizer.bin").touch()
    (folder / "text_encoder_3" / "model.safetensors").rename(folder / "text_encoder_3" / "pytorch_model.bin")
    assert load_backbone(str(folder), Loading(omit=T5)).pipeline.text_encoder_3 is None
    refused(str(folder), ValueError, "text_encoder_3 holds pytorch_model.bin, a pickle")


def test_a_pickled_censor_is_no_reason_to_refuse(pipeline_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "edited"))
    change_index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "pytorch_model.bin").touch()
    assert load_backbone(str(folder)).pipeline.safety_checker is None


def change_index(folder: Path, **entries: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


class OfThisFile(StableDiffusion):
    """A user's own backbone."""


def test_a_user_s_own_backbone_is_taken(pipeline_folder: Path, tmp_path: Path) -> None:
    own = Loading(backbone=f"{__name__}.OfThisFile")
    assert type(load_backbone(str(pipeline_folder), own)) is OfThisFile
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "edited"))
    change_index(folder, _class_name="StableDiffusionImg2ImgPipeline")
    backbone = load_backbone(str(folder), own)
    assert type(backbone) is OfThisFile
    assert type(backbone.pipeline) is StableDiffusionImg2ImgPipeline
    change_index(folder, _class_name="NextYearsPipeline")
    refused(str(folder), ValueError, "is a NextYearsPipeline, which diffusers .* doesn't have: update it", **vars(own))


IMPORT, HERE = "can't be imported", __name__
BASE = "srsoup_lightning.diffusion.pipeline_backbone.PipelineBackbone"
CLASS = "scheduler names the class {!r}: give one of diffusers'"
WRONG: list[tuple[dict[str, object], str]] = [
    *(({"omit": (name,)}, f"omit names '{name}': .* scheduler, .* vae") for name in ("text_encoder_3", "_class_name")),
    *(({"omit": (name,)}, f"omit names '{name}', which no picture is drawn without") for name in ("unet", "vae")),
    *(({"scheduler": {"_class_name": name}}, CLASS.format(name)) for name in ("LCM", "UNet2DConditionModel", 3)),
    ({"scheduler": {"spacing": 1}}, "scheduler has no .spacing.: the entries of a DDIMScheduler are .*_spacing"),
    *(
        ({"backbone": path}, f"loading.backbone '{path}' {message}")
        for path, message in {
            "": IMPORT,
            "OfThisFile": f"{IMPORT} .*: give package.module.Class",
            ".module.Class": IMPORT,
            "no_such_package.module.Class": f"{IMPORT} .*no_such_package",
            f"{HERE}.NoSuchClass": f"{IMPORT} .*NoSuchClass",
            f"{HERE}.Loading": f"is no PipelineBackbone: derive it from {BASE}",
            f"{HERE}.make": "is no PipelineBackbone",
        }.items()
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_option_is_named_before_the_pipeline_is_loaded(
    options: dict[str, object], message: str, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOAD, lambda *_: pytest.fail("the pipeline was loaded"))
    refused(str(pipeline_folder), ValueError, message, **options)


def test_a_value_that_the_scheduler_does_not_take_is_named(pipeline_folder: Path) -> None:
    refused(str(pipeline_folder), ValueError, "makes no DDIMScheduler: wave", scheduler={"beta_schedule": "wave"})


def test_a_variant_of_the_weights_is_loaded_where_it_is_named(
    pipeline_folder: Path, plain: PipelineBackbone, tmp_path: Path
) -> None:
    tiny_pipeline().save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    variant = load_backbone(str(tmp_path), Loading(variant="fp16"))
    torch.testing.assert_close(prediction(variant), prediction(plain))
    refused(str(tmp_path), FileNotFoundError, "no weights for pipeline .* name it as loading.variant")
    refused(str(pipeline_folder), ValueError, "variant=fp16", variant="fp16")


def times(folder: Path, **scheduler: object) -> tuple[float, ...]:
    return load_backbone(str(folder), Loading(scheduler=scheduler)).schedule(4, 1.0).times


def test_entries_of_the_scheduler_s_config_are_replaced_and_the_others_stay(pipeline_folder: Path) -> None:
    assert times(pipeline_folder) == (751, 501, 251, 1)
    assert times(pipeline_folder, timestep_spacing="trailing") == (999, 749, 499, 249)
    assert times(pipeline_folder, steps_offset=0) == (750, 500, 250, 0)


def test_another_scheduler_makes_consistency_steps(pipeline_folder: Path) -> None:
    """As over a consistency LoRA, whose pipeline is that of the model below it."""
    backbone = load_backbone(str(pipeline_folder), Loading(scheduler={"_class_name": "LCMScheduler"}))
    schedule, judge = backbone.schedule(4, 1.0), LCMScheduler.from_config(tiny_pipeline().scheduler.config)
    judge.set_timesteps(4)
    assert schedule.times == tuple(judge.timesteps.tolist())
    assert isinstance(schedule.kernel, Renoising)


def test_a_revision_of_a_hub_id_is_asked_for_of_index_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def record(answer: object) -> classmethod:
        return classmethod(lambda _, source, **options: asked.append((source, options["revision"])) or answer)

    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    monkeypatch.setattr(DiffusionPipeline, "load_config", record(index))
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", record(tiny_pipeline()))
    load_backbone("user/name", Loading(revision="v2"))
    assert asked == [("user/name", "v2")] * 2


@pytest.mark.parametrize("option", ["dtype", "transition", "offload"])
def test_an_unknown_choice_is_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} is 'some': choose one of \\w+, \\w+"):
        Loading(**{option: "some"})


def offloaded(folder: Path, offload: str) -> PipelineBackbone:
    return load_backbone(str(folder), Loading(offload=offload))


def children(backbone: PipelineBackbone) -> set[str]:
    return {name for name, child in backbone.named_children() if child is not None}


def test_text_encoders_wait_in_main_memory(pipeline_folder: Path, plain: PipelineBackbone) -> None:
    backbone = offloaded(pipeline_folder, "text_encoders")
    assert children(plain) == {"text_encoder", "unet", "vae"}
    assert children(backbone) == {"unet", "vae"}
    backbone.to("meta")
    assert {backbone.device.type, backbone.network.device.type, backbone.pipeline.vae.device.type} == {"meta"}
    assert backbone.pipeline.text_encoder.device.type == "cpu"


class LostError(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_text_encoders_visit_the_device_while_a_prompt_is_encoded(
    fails: bool, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = offloaded(pipeline_folder, "text_encoders")
    events: list[object] = []

    def encode(*_: object) -> Condition:
        events.append("encode")
        if fails:
            raise LostError
        return {"encoder_hidden_states": torch.zeros(1, 16, 32)}

    monkeypatch.setattr(StableDiffusion, "device", torch.device("meta"))
    monkeypatch.setattr(backbone, "encode_prompt", encode)
    monkeypatch.setattr(backbone.pipeline.text_encoder, "to", lambda device: events.append(torch.device(device).type))
    if fails:
        with pytest.raises(LostError):
            backbone.bind("cat", **OPTIONS)
    else:
        backbone.bind("cat", **OPTIONS)
    assert events == ["meta", "encode", "cpu"]


def test_offloaded_text_encoders_encode_the_same(pipeline_folder: Path, plain: PipelineBackbone) -> None:
    backbone = offloaded(pipeline_folder, "text_encoders")
    for _ in range(2):  # at every prompt
        torch.testing.assert_close(prediction(backbone), prediction(plain))


def test_a_whole_pipeline_is_offloaded_once_its_device_is_known(
    pipeline_folder: Path, plain: PipelineBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(StableDiffusionPipeline, "enable_model_cpu_offload", lambda _, **given: calls.append(given))
    backbone = offloaded(pipeline_folder, "model")
    assert children(backbone) == set()
    assert not calls
    torch.testing.assert_close(prediction(backbone), prediction(plain))
    backbone.bind("dog", **OPTIONS)
    assert calls == [{"device": backbone.device}]


def test_a_whole_pipeline_is_offloaded_from_the_device_of_the_backbone(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.device] = []
    monkeypatch.setattr(StableDiffusionPipeline, "enable_model_cpu_offload", lambda _, device: calls.append(device))
    backbone = offloaded(pipeline_folder, "model").to("meta")
    assert backbone.network.device.type == "cpu"
    monkeypatch.setattr(backbone, "encode_prompt", lambda *_: {"encoder_hidden_states": torch.zeros(1, 16, 32)})
    backbone.bind("cat", **OPTIONS)
    assert calls == [torch.device("meta")]
