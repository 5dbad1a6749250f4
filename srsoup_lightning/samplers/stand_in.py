"""Stand-in for a model and its rewards: it has their shapes and costs, and computes next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import cos, pi
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.adapters import BoundAdapters
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import DDIM, Kernel, Prediction

SHAPE = (3, 4, 4)  # of the stand-in's latents, which are larger for a method that needs it


def cosine_schedule(steps: int, eta: float) -> DDIM:
    """Return a cosine schedule (Nichol & Dhariwal 2021) whose cleanest level keeps some noise."""
    angles = [0.02 + 0.96 * (steps - level) / steps for level in range(steps + 1)]
    return DDIM(tuple(cos(angle * pi / 2) ** 2 for angle in angles), eta)


def projections(names: Sequence[str], seed: int = 0, shape: tuple[int, ...] = SHAPE) -> dict[str, _Projection]:
    """Return rewards of the stand-in: projections of its images on random directions."""
    directions = torch.randn(len(names), *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return {name: _Projection(direction) for name, direction in zip(names, directions, strict=True)}


class _Projection:
    """Reward of the stand-in: the projection of an image on a direction."""

    is_differentiable: bool | None = True
    on_cpu: ClassVar[bool] = False

    def __init__(self, direction: Tensor) -> None:
        self.direction = direction
        self.before_repeat: Callable[[int], None] = lambda images: None

    def check(self) -> None:
        """Nothing can be missing."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Return scores (B,) of images (B, 3, H, W)."""
        return (images * self.direction).sum((1, 2, 3))


def stand_in(
    kernel: Kernel, evaluations: int, shape: tuple[int, ...] = SHAPE, adapters: BoundAdapters | None = None
) -> Denoiser:
    """Return a denoiser of the given transitions and shape of latents that computes next to nothing.

    With adapters, the number of its evaluations is theirs, and its predictions differ between preferences.
    """
    given: list[Tensor] = []

    @contextmanager
    def take(inputs: Tensor) -> Iterator[None]:
        given.append(inputs)
        yield
        given.clear()

    def denoise(x: Tensor, level: int) -> Prediction:
        offset = (given[-1] @ torch.arange(given[-1].shape[1], dtype=x.dtype)).view(-1, 1, 1, 1) if given else 0.0
        return Prediction((x + offset).tanh(), x)

    def decode(latents: Tensor) -> Tensor:
        return latents.tanh() / 2 + 0.5

    def encode(images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(2 * images - 1, (shape[1], shape[2]))  # of any size

    def reschedule(num_inference_steps: int, eta: float) -> Denoiser:
        return stand_in(cosine_schedule(num_inference_steps, eta), evaluations, shape, adapters)

    return Denoiser(
        shape=shape,
        kernel=kernel,
        denoise=denoise,
        denoise_unguided=denoise,
        decode=decode,
        decode_preview=decode,
        encode=encode,
        reschedule=reschedule,
        evaluations=evaluations,
        device=torch.device("cpu"),
        adapters=None if adapters is None else adapters._replace(given=take),
    )
