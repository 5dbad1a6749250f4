"""LoRAs that are trained: unchanged predictions at the start, the base model without them, and plain diffusers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import nn

from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.loading.loras import add_loras
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import prediction, same_picture
from tests.diffusion.drawing import WAYS, backbone_of, by_pipeline, by_sampler, shared, sized
from tests.diffusion.pipelines import make

FAMILIES = ["SD", "SD 3", "FLUX.1 dev"]
FILE = "pytorch_lora_weights.safetensors"


def config(**options: object) -> LoraConfig:
    return LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["to_q", "to_v"]} | options)


def adapted(family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **options: object) -> PipelineBackbone:
    backbone = sized(family, dtype)
    backbone.add_adapter(config(**options), seed=seed)
    return backbone


def train(backbone: PipelineBackbone) -> None:
    """Draw the matrices B, which are 0 at the start."""
    generator = torch.Generator().manual_seed(1)
    for key, weight in backbone.network.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(weight, std=0.5, generator=generator)


def trained(backbone: PipelineBackbone) -> list[str]:
    return [name for name, weight in backbone.named_parameters() if weight.requires_grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_lora_changes_no_prediction_and_alone_is_trained(family: str, dtype: torch.dtype) -> None:
    before = prediction(sized(family, dtype))
    backbone = adapted(family, dtype=dtype)
    assert torch.equal(prediction(backbone), before)
    assert trained(backbone)
    assert all("lora_" in name for name in trained(backbone))
    assert {state.dtype for state in backbone.adapter_state().values()} == {torch.float32}
    prediction(backbone).sum().backward()
    slopes = {name: weight.grad for name, weight in backbone.named_parameters() if "lora_B" in name}
    assert any(slope.abs().max() > 0 for slope in slopes.values())


def test_a_lora_is_drawn_by_its_seed_alone() -> None:
    states, backbone = [adapted("SD", seed).adapter_state() for seed in (0, 0, 1)], sized("SD")
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    backbone.add_adapter(config(), seed=0)
    assert torch.equal(torch.randn(3), expected)
    torch.testing.assert_close(backbone.adapter_state(), states[0], rtol=0, atol=0)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert not any(torch.equal(states[0][key], states[2][key]) for key in states[0] if "lora_A" in key)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_its_lora_a_network_predicts_as_the_base_model(family: str) -> None:
    backbone, base = adapted(family), prediction(shared(family))
    train(backbone)
    tuned, weights = prediction(backbone), trained(backbone)
    assert (tuned - base).abs().max() > 1e-3

    @backbone.without_adapters()
    def fail() -> None:
        with backbone.without_adapters():
            assert torch.equal(prediction(backbone), base)
        assert torch.equal(prediction(backbone), base)
        raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert torch.equal(prediction(backbone), tuned)
    assert trained(backbone) == weights
    with shared(family).without_adapters():  # which has none
        assert torch.equal(prediction(shared(family)), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_diffusers_loads_the_state_and_draws_the_same(family: str, tmp_path: Path) -> None:
    backbone, way = adapted(family), WAYS[family]
    train(backbone)
    expected = by_sampler(backbone, way)
    save_file(backbone.adapter_state(), tmp_path / FILE, backbone.adapter_metadata())
    loaded, merged = (backbone_of(make(family), height=way.size[0], width=way.size[1]) for _ in range(2))
    loaded.pipeline.load_lora_weights(tmp_path)
    same_picture(by_pipeline(loaded, way), expected)
    add_loras(merged.pipeline, {str(tmp_path): 1.0})
    same_picture(by_sampler(merged, way), expected)


def test_a_state_is_a_copy_that_is_restored() -> None:
    backbone, other = adapted("SD"), adapted("SD", seed=1)
    train(backbone)
    state, expected = backbone.adapter_state(), prediction(backbone)
    with torch.inference_mode():
        other.load_adapter_state(state)
    assert torch.equal(prediction(other), expected)
    nn.init.zeros_(next(weight for name, weight in other.named_parameters() if "lora_B" in name))
    assert not torch.equal(prediction(other), expected)
    other.load_adapter_state(state)
    assert torch.equal(prediction(other), expected)
    prediction(other).sum().backward()
    for key, value in {"unet.more": torch.zeros(1), next(iter(state)): torch.zeros(1, 1)}.items():
        with pytest.raises(ValueError, match=f"{key}.*: add the LoRA with the config that"):
            other.load_adapter_state(state | {key: value})
    assert torch.equal(prediction(other), expected)


def test_a_lora_that_a_network_cannot_take_is_named() -> None:
    backbone = adapted("SD")
    with pytest.raises(ValueError, match="there is a LoRA 'default' already: give the new one another name"):
        backbone.add_adapter(config(), seed=0)
    with pytest.raises(ValueError, match=r"lora_dropout is 0\.1: .* set it to 0"):
        backbone.add_adapter(config(lora_dropout=0.1), seed=0, name="other")
    with pytest.raises(ValueError, match="the UNet2DConditionModel has no LoRA: call add_adapter first"):
        shared("SD").adapter_state()
    with pytest.raises(TypeError, match="a PixArtTransformer2DModel takes no LoRAs"):
        shared("PixArt-Σ").add_adapter(config(), seed=0)


class Plain(Backbone):
    def bind(self, *_: object, **__: object) -> Denoiser:
        raise NotImplementedError


CALLS = {name: {} for name in ("without_adapters", "adapter_state", "adapter_metadata")}
CALLS |= {"add_adapter": {"config": config(), "seed": 0}, "load_adapter_state": {"state": {}}}


@pytest.mark.parametrize("method", CALLS)
def test_a_backbone_without_such_a_network_says_so(method: str) -> None:
    with pytest.raises(TypeError, match="Plain has no network that takes LoRAs"):
        getattr(Plain(), method)(**CALLS[method])
