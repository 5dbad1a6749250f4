"""The Laplacian pixel by pixel in numpy, its variance on noise by algebra, and what blur and noise do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rewards import Sharpness
from rewards.functional import sharpness
from tests.rewards.conftest import smooth


def reference(image: np.ndarray) -> float:
    """Neighbour by neighbour, mirrored at the outermost pixels."""
    grey = np.pad(255 * np.einsum("c,chw->hw", [0.2126, 0.7152, 0.0722], image.astype(np.float64)), 1, mode="reflect")
    height, width = image.shape[1:]
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, height + 1)
        for x in range(1, width + 1)
    ]
    return float(np.var(laplacian))


@pytest.mark.parametrize("size", [(2, 2), (2, 7), (5, 3), (12, 9)])
def test_formula_in_numpy(size: tuple[int, int]) -> None:
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = [reference(image) for image in images.numpy()]
    assert Sharpness().score(images, [""] * 3).tolist() == pytest.approx(expected, rel=1e-4)


def test_noise_has_what_the_variances_add_up_to() -> None:
    """4^2 + 4 x 1 times the variance of a pixel's luma; the mirrored border is a small part."""
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    luma = 255**2 / 12 * (0.2126**2 + 0.7152**2 + 0.0722**2)
    assert sharpness(noise).item() == pytest.approx(20 * luma, rel=0.02)


def test_contrast_counts_squared_and_lightness_nothing() -> None:
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(sharpness(images / 3 + 0.2), sharpness(images) / 9)


def test_blur_lowers_and_noise_raises() -> None:
    images = smooth(32, 32)
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    noisy = (images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    blunt, plain, sharp = (sharpness(batch) for batch in (blurred, images, noisy))
    assert (blunt < plain).all()
    assert (plain < sharp).all()


def test_gradient_by_finite_differences() -> None:
    image = torch.rand(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sharpness, (image,))


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images are 1x8 pixels: sharpness needs at least 2"):
        Sharpness().score(torch.rand(1, 3, 1, 8), [""])
