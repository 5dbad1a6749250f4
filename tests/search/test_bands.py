"""The Haar transform against its matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srsoup_lightning.search.bands import haar, inverse_haar


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 999), level=st.integers(0, 3), blocks=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_it_keeps_the_energy_and_has_an_inverse(seed: int, level: int, blocks: tuple[int, int]) -> None:
    x = random(2, 5, *(2**level * block for block in blocks), seed=seed)
    low, high = haar(x, level)
    assert low.shape == (2, 5, *blocks)
    assert len(high) == level
    energies = [part.square().sum() for part in (low, *high)]
    torch.testing.assert_close(torch.stack(energies).sum(), x.square().sum())
    torch.testing.assert_close(inverse_haar(low, high), x)


@pytest.mark.parametrize("level", [1, 2])
def test_the_bands_are_those_of_the_orthonormal_matrix(level: int) -> None:
    x, eye = random(8, 8), torch.eye(4, dtype=torch.float64)
    mean, difference = (torch.kron(eye, torch.tensor([[1.0, sign]], dtype=torch.float64)) / 2**0.5 for sign in (1, -1))
    low, high = haar(x, level)
    columns = [mean @ x @ difference.T, difference @ x @ mean.T, difference @ x @ difference.T]
    torch.testing.assert_close(high[0], torch.stack(columns))
    smooth = torch.ones(1, 2**level, dtype=torch.float64) / 2 ** (level / 2)
    smooth = torch.kron(torch.eye(8 // 2**level, dtype=torch.float64), smooth)
    torch.testing.assert_close(low, smooth @ x @ smooth.T)


def test_a_standard_normal_low_band_keeps_the_latent_standard_normal() -> None:
    count = 20_000
    low, high = haar(random(count, 1, 4, 4), 1)
    drawn = inverse_haar(random(*low.shape, seed=1), high).flatten(1)
    assert drawn.mean(0).abs().max() < 4.5 / count**0.5
    assert (drawn.T @ drawn / count - torch.eye(16, dtype=torch.float64)).abs().max() < 4.5 * (2 / count) ** 0.5


def test_a_size_that_can_t_be_halved_is_named() -> None:
    with pytest.raises(ValueError, match="level is 3: latents of 16 x 12 can be halved 2 times at most"):
        haar(random(1, 16, 12), 3)
