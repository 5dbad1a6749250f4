"""The pure measures against numpy, closed forms and algebra, their gradients, and the arguments of their rewards."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from rewards import Brightness, Colorfulness, Contrast, JPEGCompressibility, JPEGSize, Reward, Sharpness, Symmetry
from rewards.functional import brightness, colorfulness, contrast, luma, sharpness, symmetry
from tests.rewards.conftest import pictures, smooth

REC_709 = [0.2126, 0.7152, 0.0722]
AXES = {"left-right": 3, "top-bottom": 2}
MEASURES = [brightness, colorfulness, contrast, sharpness, symmetry]


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("measure", MEASURES)
def test_gradients_are_right_and_autocast_costs_no_precision(measure: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(measure, (noise(2, 3, 4, 3, dtype=torch.float64).requires_grad_(),))
    images = smooth(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = measure(images)
    torch.testing.assert_close(inside, measure(images), rtol=0, atol=0)


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 0.3, 0.1), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("reward", [Brightness(), Colorfulness(), Contrast(), Sharpness(), Symmetry()], ids=repr)
def test_gradient_of_a_flat_image_is_finite(reward: Reward, colour: tuple[float, ...]) -> None:
    image = torch.tensor(colour).view(1, 3, 1, 1).repeat(1, 1, 5, 5).requires_grad_()
    reward.score(image, [""]).sum().backward()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1, 1, 1), 1.0), ((0, 0, 0), 0.0), ((1, 0, 0), 0.2126), ((0, 1, 0), 0.7152), ((0, 0, 1), 0.0722)],
)
def test_primaries_have_the_luma_of_the_standard(colour: tuple[float, ...], expected: float) -> None:
    image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 2, 5)
    torch.testing.assert_close(luma(image), torch.full((1, 2, 5), expected))
    assert brightness(image).item() == pytest.approx(expected)


def test_luma_as_pillow_converts() -> None:
    images = smooth(12, 20)
    for image, picture in zip(luma(images), pictures(images), strict=True):
        np.testing.assert_allclose(255 * image.numpy(), np.asarray(picture.convert("L", (*REC_709, 0))), atol=1)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0, 1), target=st.floats(0, 1))
def test_a_grey_has_its_level_as_brightness_and_its_distance_to_the_target(level: float, target: float) -> None:
    grey = torch.full((1, 3, 3, 4), level)
    assert Brightness().score(grey, [""]).item() == pytest.approx(level, abs=1e-6)
    assert Brightness(target).score(grey, [""]).item() == pytest.approx(-abs(level - target), abs=1e-6)


def colorfulness_in_numpy(image: np.ndarray) -> float:
    red, green, blue = (image.astype(np.float64) * 255).reshape(3, -1)
    rg, yb = red - green, 0.5 * (red + green) - blue
    return math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (2, 3, *s)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_colorfulness_in_numpy(images: np.ndarray) -> None:
    expected = [colorfulness_in_numpy(image) for image in images]
    scores = Colorfulness().score(torch.from_numpy(images), ["", ""])
    assert scores.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0, 1))
def test_colorfulness_of_greys_and_of_two_pixels_by_hand(level: float) -> None:
    assert colorfulness(torch.linspace(0, level, 16).view(1, 1, 4, 4).expand(1, 3, 4, 4)).item() == 0
    # Red: rg = 255, yb = 127.5. Blue: rg = 0, yb = -255. Deviations 127.5 and 191.25, means 127.5 and -63.75.
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).view(1, 3, 1, 2)
    expected = math.sqrt(127.5**2 + 191.25**2) + 0.3 * math.sqrt(127.5**2 + 63.75**2)
    assert colorfulness(image).item() == pytest.approx(expected, rel=1e-6)


def test_colorfulness_ignores_positions_and_scales_with_fading() -> None:
    image = noise(1, 3, 6, 4, dtype=torch.float64)
    shuffled = image.flatten(2)[..., torch.randperm(24)].view(1, 3, 4, 6)
    torch.testing.assert_close(colorfulness(shuffled), colorfulness(image))
    grey = image.mean(1, keepdim=True)
    torch.testing.assert_close(colorfulness(torch.lerp(grey, image, 0.25)), 0.25 * colorfulness(image))


def test_contrast_is_numpys_standard_deviation() -> None:
    images = smooth(9, 14)
    grey = np.einsum("c,bchw->bhw", REC_709, images.double().numpy())
    assert Contrast().score(images, [""] * 4).tolist() == pytest.approx(grey.std((1, 2)).tolist(), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), share=st.integers(0, 10))
def test_contrast_of_two_levels_in_closed_form(low: float, high: float, share: int) -> None:
    levels = torch.tensor([high] * share + [low] * (10 - share)).view(1, 1, 2, 5).expand(1, 3, 2, 5)
    p = share / 10
    assert contrast(levels).item() == pytest.approx(abs(high - low) * math.sqrt(p * (1 - p)), abs=1e-5)


def test_noise_has_the_sum_of_the_variances() -> None:
    """Sharpness has 4^2 + 4 x 1 times the variance of a pixel's luma; the mirrored border is a small part."""
    images, variance = noise(1, 3, 256, 256), sum(weight**2 for weight in REC_709) / 12
    assert contrast(images).item() == pytest.approx(math.sqrt(variance), rel=0.01)
    assert sharpness(images).item() == pytest.approx(20 * 255**2 * variance, rel=0.02)


def sharpness_in_numpy(image: np.ndarray) -> float:
    """Neighbour by neighbour, mirrored at the outermost pixels."""
    grey = np.pad(255 * np.einsum("c,chw->hw", REC_709, image.astype(np.float64)), 1, mode="reflect")
    height, width = image.shape[1:]
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, height + 1)
        for x in range(1, width + 1)
    ]
    return float(np.var(laplacian))


@pytest.mark.parametrize("size", [(2, 2), (2, 7), (5, 3), (12, 9)])
def test_sharpness_in_numpy(size: tuple[int, int]) -> None:
    images = noise(3, 3, *size)
    expected = [sharpness_in_numpy(image) for image in images.numpy()]
    assert Sharpness().score(images, [""] * 3).tolist() == pytest.approx(expected, rel=1e-4)


def test_sharpness_grows_with_contrast_and_noise_and_falls_with_blur() -> None:
    images = noise(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(sharpness(images / 3 + 0.2), sharpness(images) / 9)
    images = smooth(32, 32)
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    noisy = (images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert (sharpness(blurred) < sharpness(images)).all()
    assert (sharpness(images) < sharpness(noisy)).all()


@pytest.mark.parametrize("mirror", AXES)
def test_symmetry_is_numpys_correlation_coefficient(mirror: str) -> None:
    images = noise(3, 3, 7, 10)
    centred = images.double().numpy() - images.double().numpy().mean((2, 3), keepdims=True)
    mirrored = np.flip(centred, AXES[mirror])
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(centred, mirrored, strict=True)]
    assert Symmetry(mirror).score(images, [""] * 3).tolist() == pytest.approx(expected, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1_000), mirror=st.sampled_from(sorted(AXES)))
def test_symmetry_is_the_energy_of_the_even_part_less_that_of_the_odd(share: float, seed: int, mirror: str) -> None:
    """The two parts are orthogonal, and mirroring only turns the odd one's sign."""
    image = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image = image - image.mean((2, 3), keepdim=True)
    even, odd = share * (image + image.flip(AXES[mirror])), (1 - share) * (image - image.flip(AXES[mirror]))
    energies = [even.square().sum(), odd.square().sum()]
    expected = (energies[0] - energies[1]) / (energies[0] + energies[1])
    torch.testing.assert_close(symmetry(0.5 + 0.1 * (even + odd), mirror), expected[None], rtol=0, atol=5e-3)


def test_fading_changes_symmetry_little_and_flat_images_have_none() -> None:
    images = noise(2, 3, 16, 16)
    torch.testing.assert_close(symmetry(0.3 * images + 0.4), symmetry(images), rtol=0, atol=1e-2)
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).repeat(1, 3, 4, 4)
    assert Symmetry().score(images, [""] * 3).abs().max() < 1e-6


@pytest.mark.parametrize("mirror", AXES)
def test_a_mirrored_image_has_symmetry_1_and_its_negative_minus_1(mirror: str) -> None:
    half = noise(1, 3, 5, 5)
    for sign, other in {1: half.flip(AXES[mirror]), -1: 1 - half.flip(AXES[mirror])}.items():
        assert symmetry(torch.cat([half, other], AXES[mirror]), mirror).item() == pytest.approx(sign, abs=1e-3)


IMAGE, SIDES, NAN = torch.rand(1, 3, 2, 2), "left-right, top-bottom", math.nan
LUMA = r"give a mean luma from 0 \(black\) to 1"
REFUSED: list[tuple[Callable[[], object], str]] = [
    *[(lambda t=t: Brightness(t), rf"target is {t}: {LUMA}") for t in (-0.1, 1.1, 128, NAN)],
    (lambda: Sharpness().score(torch.rand(1, 3, 1, 8), [""]), "images are 1x8 pixels: sharpness needs at least 2"),
    (lambda: Symmetry("upside-down"), f"mirror is 'upside-down': choose one of {SIDES}"),
    (lambda: symmetry(IMAGE, "upside-down"), f"mirror is 'upside-down': choose one of {SIDES}"),
    *[(lambda q=q: JPEGCompressibility(q), f"quality is {q}.*1 .*100") for q in (0, 101, -5, 50.5)],
    (lambda: JPEGCompressibility(subsampling="4:1:1"), "'4:1:1'.*4:4:4, 4:2:2, 4:2:0"),
    (lambda: JPEGCompressibility(workers=0), "workers is 0"),
    *[(lambda t=t: JPEGSize(t), f"target is {t}: give a size in kilobytes") for t in (0.0, -3.0, math.inf, NAN)],
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_arguments_that_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
