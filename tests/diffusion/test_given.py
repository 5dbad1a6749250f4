"""Pipelines that the caller has loaded: drawn with as they are, and left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline
from peft import LoraConfig

from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.finetune import PolicyGradient, Training
from srsoup_lightning.samplers import BaseModel, Soup
from tests.conftest import Channel, quiet_trainer
from tests.diffusion.conftest import tiny_pipeline
from tests.diffusion.drawing import WAYS
from tests.diffusion.pipelines import make


def module_of(pipeline: object, **options: object) -> SRSoupModule:
    sampler = BaseModel(num_inference_steps=2, guidance_scale=1.0, max_batch=4)
    return SRSoupModule(pipeline, {"red": Channel(0)}, sampler, Preferences(["red"], [[1.0]]), **options)


def drawn(pipeline: object, **options: object) -> Soup:
    return module_of(pipeline, **options).sample("a cat")


@pytest.mark.parametrize("family", ["SD 3", "FLUX.1 dev", "Sana"])
def test_a_loaded_pipeline_of_another_family_keeps_its_weights(family: str) -> None:
    pipeline, (height, width) = make(family), WAYS[family].size
    before = {name: each.clone() for name, each in pipeline.transformer.state_dict().items()}
    assert drawn(pipeline, loading=Loading(height=height, width=width)).images.shape == (1, 3, height, width)
    assert all(torch.equal(each, before[name]) for name, each in pipeline.transformer.state_dict().items())


def test_it_is_the_model_of_the_same_files_and_the_pipeline_draws_as_before(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path)
    own = {"prompt": "a cat", "num_inference_steps": 2, "output_type": "np", "height": 16, "width": 16}
    before = pipeline(**own, generator=torch.Generator().manual_seed(0)).images
    size = Loading(height=16, width=24)
    assert torch.equal(drawn(pipeline, loading=size).images, drawn(str(tmp_path), loading=size).images)
    assert (pipeline(**own, generator=torch.Generator().manual_seed(0)).images == before).all()
    assert module_of(pipeline).base == "StableDiffusionPipeline"
    assert module_of(DiffusionPipeline.from_pretrained(tmp_path)).base == str(tmp_path)


def test_a_lora_that_is_active_in_it_acts_and_is_told() -> None:
    pipeline = tiny_pipeline()
    plain = drawn(pipeline)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipeline.unet.add_adapter(config, "mine")
    full, facts = drawn(pipeline), module_of(pipeline).describe_model()
    with pytest.raises(ValueError, match="LoRA 'mine' is active in the pipeline, and a fit would switch it off"):
        module_of(pipeline, training=Training(objective=PolicyGradient()))
    pipeline.set_adapters(["mine"], [0.5])
    half, other = drawn(pipeline), module_of(pipeline)
    assert other.loras == {"mine": 0.5}
    assert other.describe_model() != facts
    pipeline.disable_lora()
    assert module_of(pipeline).loras == {}
    assert torch.equal(drawn(pipeline).images, plain.images)
    assert len({soup.images.sum().item() for soup in (plain, full, half)}) == 3


def test_a_run_goes_on_with_the_same_pipeline_and_with_no_other(tmp_path: Path) -> None:
    pipeline, prompts = tiny_pipeline(), PromptDataModule(["a cat", "a dog"])

    def predict(**options: object) -> list[Soup]:
        trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[SampleWriter()])
        return trainer.predict(module_of(pipeline, **options), prompts)

    assert len(predict()) == 2
    assert not predict()
    with pytest.raises(FileExistsError, match=r"another run \(.*latents"):
        predict(loading=Loading(height=24))
    with torch.no_grad():
        pipeline.vae.decoder.conv_in.bias.add_(0.1)
    with pytest.raises(FileExistsError, match=r"another run \(.*weights"):
        predict()


def test_other_objects_and_options_that_would_change_the_pipeline_are_refused_by_name() -> None:
    pipeline = tiny_pipeline()
    with pytest.raises(TypeError, match="pipeline is a UNet2DConditionModel: give a pipeline of diffusers"):
        module_of(pipeline.unet)
    other = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    with pytest.raises(ValueError, match=r"Img2ImgPipeline, which has no backbone: give one of .*FluxPipeline"):
        module_of(other)
    with pytest.raises(ValueError, match=r"loading\.dtype is 'float16', and the pipeline is loaded already"):
        module_of(pipeline, loading=Loading(dtype="float16"))
    add_hook_to_module(pipeline.unet, AlignDevicesHook(execution_device="cpu"))
    with pytest.raises(ValueError, match="the pipeline's unet has AlignDevicesHook, which moves weights"):
        module_of(pipeline)
