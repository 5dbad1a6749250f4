"""Options of speed and memory change no picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import Tensor, nn
from torch._dynamo.utils import counters

from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.conftest import load, prediction, refused
from tests.diffusion.drawing import backbone_of, shared
from tests.diffusion.pipelines import make
from tests.samplers.toys import normal

PLAIN = {"tiling": False, "slicing": False, "attention": None, "channels_last": False, "regional_compile": False}


def decoded(backbone: PipelineBackbone, count: int = 1) -> Tensor:
    x = normal(count, *backbone.latent_shape)
    return backbone.bind("a cat", num_inference_steps=3, guidance_scale=1.0, eta=1.0).decode(x)


@pytest.mark.parametrize(("family", "tile"), [("SDXL", 16), ("Sana", 512)])
def test_tiles_are_decoded_one_by_one_where_a_picture_is_larger(
    family: str, tile: int, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tiled = saved(family), []
    kind = type(shared(family).pipeline.vae)
    own = kind.tiled_decode
    monkeypatch.setattr(kind, "tiled_decode", lambda self, z, **options: tiled.append(z) or own(self, z, **options))
    small, large = {"height": 16, "width": 16}, {"height": tile + 16, "width": 16}
    plain = load(folder, **small)
    torch.testing.assert_close(decoded(load(folder, **small, vae_tiling=True)), decoded(plain))
    decoded(load(folder, **large))
    assert not tiled
    assert decoded(load(folder, **large, vae_tiling=True)).shape == (1, 3, tile + 16, 16)
    assert len(tiled) == 1


@pytest.mark.parametrize("slicing", [False, True])
def test_slices_are_decoded_picture_by_picture(pipeline_folder: Path, plain: PipelineBackbone, slicing: bool) -> None:
    backbone = load(pipeline_folder, vae_slicing=slicing)
    counts = []
    backbone.pipeline.vae.decoder.register_forward_hook(lambda _, args, __: counts.append(len(args[0])))
    images = decoded(backbone, 3)
    assert counts == ([1, 1, 1] if slicing else [3])
    torch.testing.assert_close(images, decoded(plain, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", ["tiling", "slicing"])
def test_an_autoencoder_without_tiles_or_slices_is_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"^vae_{option} is on, and a AsymmetricAutoencoderKL has none$"):
        tune(nn.Module(), AsymmetricAutoencoderKL(), **{**PLAIN, option: True})


def test_attention_by_the_default_backend_changes_nothing(pipeline_folder: Path, plain: PipelineBackbone) -> None:
    native = load(pipeline_folder, attention="native")
    torch.testing.assert_close(prediction(native), prediction(plain))


def test_attention_by_another_backend_reaches_the_network(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = _AttentionBackendRegistry
    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # which diffusers sets for good
    backbone = load(saved("FLUX.1 dev"), attention="_native_math")
    processors = [module.processor for module in backbone.network.modules() if hasattr(module, "processor")]
    assert {processor._attention_backend for processor in processors} == {"_native_math"}
    torch.testing.assert_close(prediction(backbone), prediction(backbone_of(make("FLUX.1 dev"))), rtol=0, atol=1e-4)


def test_an_unknown_attention_backend_is_named(saved: Callable[[str], Path], pipeline_folder: Path) -> None:
    refused(saved("FLUX.1 dev"), ValueError, "attention 'nativ' can't be used: .* one of.*flash", attention="nativ")
    only = "attention is '_native_math', and a UNet2DConditionModel takes PyTorch's own only"
    refused(pipeline_folder, ValueError, only, attention="_native_math")


@pytest.mark.parametrize("family", ["SDXL", "SD 3"])
def test_channels_last_changes_the_order_in_memory_alone(family: str, saved: Callable[[str], Path]) -> None:
    plain, last = (load(saved(family), channels_last=wanted) for wanted in (False, True))
    for network in (last.network, last.pipeline.vae):
        weights = [weight for weight in network.parameters() if weight.ndim == 4]
        assert weights
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    torch.testing.assert_close(prediction(last), prediction(plain), rtol=0, atol=1e-5)
    torch.testing.assert_close(decoded(last), decoded(plain), rtol=0, atol=1e-5)


BLOCKS = {
    "SDXL": {"BasicTransformerBlock"},
    "SD 3": {"JointTransformerBlock"},
    "FLUX.1 dev": {"FluxTransformerBlock", "FluxSingleTransformerBlock"},
    "Sana": {"SanaTransformerBlock"},
    "PixArt-Σ": {"BasicTransformerBlock"},
}


@pytest.mark.parametrize("family", BLOCKS)
def test_the_blocks_that_repeat_are_to_be_compiled(family: str, saved: Callable[[str], Path]) -> None:
    network = load(saved(family), compile=True).network
    compiled = [module for module in network.modules() if module._compiled_call_impl is not None]
    assert {type(module).__name__ for module in compiled} == BLOCKS[family]
    assert len(compiled) == sum(type(module).__name__ in BLOCKS[family] for module in network.modules())


def test_nothing_is_compiled_unasked(plain: PipelineBackbone) -> None:
    assert all(module._compiled_call_impl is None for module in plain.modules())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["SDXL", "SD 3"])
def test_compiled_blocks_predict_the_same(family: str, saved: Callable[[str], Path]) -> None:
    plain, compiled = (load(saved(family), compile=wanted) for wanted in (False, True))
    expected = prediction(plain)
    counters.clear()
    torch.testing.assert_close(prediction(compiled), expected, rtol=0, atol=1e-3)
    assert counters["stats"]["unique_graphs"]
