"""Random numbers that depend on their purpose alone."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource, require_even

SHAPE = (4, 16, 16)


def test_draws_do_not_depend_on_order_or_on_the_global_generator() -> None:
    first, second = NoiseSource("a lobster", 7, SHAPE), NoiseSource("a lobster", 7, SHAPE)
    torch.manual_seed(0)
    forward = [first.start(), first.step(3), first.candidates(5, 3), first.candidates(5, 3, [0.25, 0.75])]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    backward = [second.candidates(5, 3, [0.25, 0.75]), second.candidates(5, 3), second.step(3), second.start()]
    torch.testing.assert_close(forward, backward[::-1], rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_every_purpose_has_independent_draws() -> None:
    draws: dict[str, Tensor] = {}
    for prompt, seed in (("a lobster", 0), ("a lobster", 1), ("a snail", 0), ("", -1), ("a lobster", 10)):
        noise = NoiseSource(prompt, seed, SHAPE)
        for i in (0, 1, 11):
            draws[f"{prompt} {seed} start {i}"] = noise.start(i)
            draws[f"{prompt} {seed} candidates {i} of all"] = noise.candidates(2, i)[0]
            for j in (0, 1, 11):
                draws[f"{prompt} {seed} step {i} {j}"] = noise.step(i, j)
                draws[f"{prompt} {seed} candidates {i} {j}"] = noise.candidates(2, i, [j / 7, 1 - j / 7])[1]
    flat = torch.stack([draw.flatten() for draw in draws.values()])
    correlations, limit = torch.corrcoef(flat), 6 / flat.shape[1] ** 0.5
    for (i, one), (j, other) in combinations(enumerate(draws), 2):
        assert abs(correlations[i, j]) < limit, (one, other)


def test_draws_are_standard_normal_float32() -> None:
    draws = NoiseSource("a", 0, SHAPE).candidates(100, 0)
    assert (draws.shape, draws.dtype) == ((100, *SHAPE), torch.float32)
    moments = [draws.mean(), draws.var(), (draws**3).mean(), (draws**4).mean()]
    torch.testing.assert_close(torch.stack(moments), torch.tensor([0.0, 1.0, 0.0, 3.0]), rtol=0.05, atol=0.05)


def test_antithetic_draws_come_in_mirrored_pairs() -> None:
    noise = NoiseSource("a", 0, SHAPE)
    for preference in (None, [0.25, 0.75]):
        draws = noise.candidates(6, 2, preference, antithetic=True)
        torch.testing.assert_close(draws[1::2], -draws[::2], rtol=0, atol=0)
        assert (draws[0] - draws[2]).abs().max() > 1


def test_an_odd_number_of_antithetic_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"candidates is 5, odd: .* even"):
        NoiseSource("a", 0, SHAPE).candidates(5, 0, antithetic=True)
    require_even(6)
