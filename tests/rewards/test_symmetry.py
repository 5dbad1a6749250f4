"""numpy's correlation coefficient, the split into an even and an odd part, and flat images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Symmetry
from rewards.functional import symmetry

AXES = {"left-right": 3, "top-bottom": 2}


@pytest.mark.parametrize("mirror", AXES)
def test_numpys_correlation_coefficient(mirror: str) -> None:
    images = torch.rand(3, 3, 7, 10, generator=torch.Generator().manual_seed(0))
    centred = images.double().numpy() - images.double().numpy().mean((2, 3), keepdims=True)
    mirrored = np.flip(centred, AXES[mirror])
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(centred, mirrored, strict=True)]
    assert Symmetry(mirror).score(images, [""] * 3).tolist() == pytest.approx(expected, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1_000), mirror=st.sampled_from(sorted(AXES)))
def test_energy_of_the_even_part_less_that_of_the_odd(share: float, seed: int, mirror: str) -> None:
    """The two parts are orthogonal, and mirroring only turns the odd one's sign."""
    noise = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise - noise.mean((2, 3), keepdim=True)
    even, odd = noise + noise.flip(AXES[mirror]), noise - noise.flip(AXES[mirror])
    image = 0.5 + 0.1 * (share * even + (1 - share) * odd)
    energies = [(share * even).square().sum(), ((1 - share) * odd).square().sum()]
    expected = (energies[0] - energies[1]) / (energies[0] + energies[1])
    torch.testing.assert_close(symmetry(image, mirror), expected[None], rtol=0, atol=5e-3)


def test_fading_colours_apart_from_their_mean_change_little() -> None:
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(symmetry(0.3 * images + 0.4), symmetry(images), rtol=0, atol=1e-2)


@pytest.mark.parametrize("mirror", AXES)
def test_a_mirrored_image_is_whole_and_its_negative_the_opposite(mirror: str) -> None:
    half = torch.rand(1, 3, 5, 5)
    whole = torch.cat([half, half.flip(AXES[mirror])], AXES[mirror])
    negative = torch.cat([half, 1 - half.flip(AXES[mirror])], AXES[mirror])
    assert symmetry(whole, mirror).item() == pytest.approx(1, abs=1e-3)
    assert symmetry(negative, mirror).item() == pytest.approx(-1, abs=1e-3)


def test_flat_images_have_none_and_finite_gradients() -> None:
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).repeat(1, 3, 4, 4).requires_grad_()
    scores = Symmetry().score(images, [""] * 3)
    assert scores.abs().max() < 1e-6
    scores.sum().backward()
    assert images.grad.isfinite().all()


def test_gradient_by_finite_differences() -> None:
    image = torch.rand(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(symmetry, (image,))


def test_bad_mirror() -> None:
    with pytest.raises(ValueError, match=r"mirror is 'upside-down': choose one of left-right, top-bottom"):
        Symmetry("upside-down")
