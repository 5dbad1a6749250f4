"""The paper's formula in numpy, a case by hand, and gradients where a square root would break."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rewards import Colorfulness
from rewards.functional import colorfulness


def reference(image: np.ndarray) -> float:
    red, green, blue = (image.astype(np.float64) * 255).reshape(3, -1)
    rg, yb = red - green, 0.5 * (red + green) - blue
    return math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (2, 3, *s)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_formula_in_numpy(images: np.ndarray) -> None:
    expected = [reference(image) for image in images]
    scores = Colorfulness().score(torch.from_numpy(images), ["", ""])
    assert scores.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_two_pixels_by_hand() -> None:
    # Red: rg = 255, yb = 127.5. Blue: rg = 0, yb = -255. Deviations 127.5 and 191.25, means 127.5 and -63.75.
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).view(1, 3, 1, 2)
    expected = math.sqrt(127.5**2 + 191.25**2) + 0.3 * math.sqrt(127.5**2 + 63.75**2)
    assert colorfulness(image).item() == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0, 1))
def test_grey_is_colourless(level: float) -> None:
    ramp = torch.linspace(0, level, 16).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert colorfulness(ramp).item() == 0


def test_moving_pixels_around_changes_nothing() -> None:
    image = torch.rand(1, 3, 6, 4)
    shuffled = image.flatten(2)[..., torch.randperm(24)].view(1, 3, 4, 6)
    torch.testing.assert_close(colorfulness(shuffled), colorfulness(image))


def test_fading_to_grey_scales() -> None:
    image = torch.rand(1, 3, 6, 4, dtype=torch.float64)
    grey = image.mean(1, keepdim=True)
    torch.testing.assert_close(colorfulness(torch.lerp(grey, image, 0.25)), 0.25 * colorfulness(image))


def test_gradient_by_finite_differences() -> None:
    image = torch.rand(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(colorfulness, (image,))


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.3, 0.1)])
def test_gradient_of_a_flat_image_is_finite(colour: tuple[float, ...]) -> None:
    image = torch.tensor(colour).view(1, 3, 1, 1).repeat(1, 1, 5, 5).requires_grad_()
    Colorfulness().score(image, [""]).sum().backward()
    assert image.grad.isfinite().all()
