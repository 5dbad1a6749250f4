"""Rec. 709's weights, Pillow's own matrix conversion, and distances to a target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Brightness
from rewards.functional import brightness
from rewards.functional import luma
from tests.rewards.conftest import pictures, smooth


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1, 1, 1), 1.0), ((0, 0, 0), 0.0), ((1, 0, 0), 0.2126), ((0, 1, 0), 0.7152), ((0, 0, 1), 0.0722)],
)
def test_primaries_as_the_standard_says(colour: tuple[float, ...], expected: float) -> None:
    image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 2, 5)
    torch.testing.assert_close(luma(image), torch.full((1, 2, 5), expected))
    assert brightness(image).item() == pytest.approx(expected)


def test_luma_as_pillow_converts() -> None:
    images = smooth(12, 20)
    weights = (0.2126, 0.7152, 0.0722, 0)
    for image, picture in zip(luma(images), pictures(images), strict=True):
        np.testing.assert_allclose(255 * image.numpy(), np.asarray(picture.convert("L", weights)), atol=1)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0, 1), target=st.floats(0, 1))
def test_a_grey_is_as_bright_as_it_is_and_as_far_from_the_target(level: float, target: float) -> None:
    grey = torch.full((1, 3, 3, 4), level)
    assert Brightness().score(grey, [""]).item() == pytest.approx(level, abs=1e-6)
    assert Brightness(target).score(grey, [""]).item() == pytest.approx(-abs(level - target), abs=1e-6)


def test_autocast_costs_no_precision() -> None:
    images = smooth(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = brightness(images)
    torch.testing.assert_close(inside, brightness(images), rtol=0, atol=0)


@pytest.mark.parametrize("target", [None, 0.2])
def test_gradient_by_finite_differences(target: float | None) -> None:
    image = smooth(4, 5, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(brightness, (image,))
    (gradient,) = torch.autograd.grad(Brightness(target).score(image, [""]).sum(), image)
    (slope,) = torch.autograd.grad(brightness(image).sum(), image)
    torch.testing.assert_close(gradient, slope if target is None else -slope)  # it is brighter than that


@pytest.mark.parametrize("target", [-0.1, 1.1, 128, float("nan")])
def test_bad_target(target: float) -> None:
    with pytest.raises(ValueError, match=rf"target is {target}: give a mean luma from 0 \(black\) to 1"):
        Brightness(target)
