"""numpy's standard deviation of the standard's luma, closed forms, and gradients where a square root would break."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Contrast
from rewards.functional import contrast
from tests.rewards.conftest import smooth


def test_numpys_standard_deviation() -> None:
    images = smooth(9, 14)
    grey = np.einsum("c,bchw->bhw", [0.2126, 0.7152, 0.0722], images.double().numpy())
    assert Contrast().score(images, [""] * 4).tolist() == pytest.approx(grey.std((1, 2)).tolist(), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), share=st.integers(0, 10))
def test_two_levels_in_closed_form(low: float, high: float, share: int) -> None:
    levels = torch.tensor([high] * share + [low] * (10 - share)).view(1, 1, 2, 5).expand(1, 3, 2, 5)
    p = share / 10
    assert contrast(levels).item() == pytest.approx(abs(high - low) * math.sqrt(p * (1 - p)), abs=1e-5)


def test_noise_has_what_the_variances_add_up_to() -> None:
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    expected = math.sqrt((0.2126**2 + 0.7152**2 + 0.0722**2) / 12)
    assert contrast(noise).item() == pytest.approx(expected, rel=0.01)


def test_gradient_by_finite_differences() -> None:
    image = torch.rand(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(contrast, (image,))


def test_gradient_of_a_flat_image_is_finite() -> None:
    image = torch.zeros(1, 3, 5, 5, requires_grad=True)
    Contrast().score(image, [""]).sum().backward()
    assert image.grad.isfinite().all()
