"""Resampling by weights: the expected numbers of offspring, and how far from them the numbers are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.search.resampling import effective_sample_size, resample, soft_choice

seeds = st.integers(0, 10_000)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=seeds, count=st.integers(1, 12), resampler=st.sampled_from(["systematic", "ssp", "rounding"]))
def test_offspring_are_the_expected_number_rounded(seed: int, count: int, resampler: str) -> None:
    log_weights = random(count, seed=seed).mul(6)
    ancestors = resample(log_weights, random(count, seed=seed + 1), resampler)
    expected = count * log_weights.softmax(0)
    offspring = torch.bincount(ancestors, minlength=count)
    assert len(ancestors) == count
    assert bool((offspring >= (expected - 1e-9).floor()).all())
    assert bool((offspring <= (expected + 1e-9).ceil()).all())


@pytest.mark.parametrize("resampler", ["systematic", "multinomial", "ssp"])
def test_offspring_are_in_proportion_to_weights_on_average(resampler: str) -> None:
    log_weights = torch.tensor([0.0, 1.0, 2.0, -torch.inf, 0.5])
    drawn = [resample(log_weights, random(5, seed=seed), resampler) for seed in range(4_000)]
    shares = torch.bincount(torch.cat(drawn), minlength=5) / 20_000
    torch.testing.assert_close(shares, log_weights.softmax(0), rtol=0, atol=0.02)


def test_the_largest_remainders_have_one_more_offspring() -> None:
    log_weights = torch.tensor([0.45, 0.3, 0.15, 0.1]).log()  # 1.8, 1.2, 0.6 and 0.4 are expected
    assert resample(log_weights, random(4), "rounding").tolist() == [0, 0, 1, 2]


@given(seed=seeds, count=st.integers(1, 9))
def test_the_effective_sample_size_counts_equal_weights(seed: int, count: int) -> None:
    weights = random(count, seed=seed) + 1e-3
    expected = float(weights.sum() ** 2 / weights.square().sum())
    assert float(effective_sample_size(weights.log() - 500)) == pytest.approx(expected)
    assert float(effective_sample_size(torch.full((count,), -700.0))) == pytest.approx(count)


def test_a_soft_choice_draws_by_the_softmax_of_the_values() -> None:
    values = torch.tensor([0.0, 0.5, 1.0])
    drawn = torch.stack([soft_choice(values, 0.5, random(3, seed=seed)) for seed in range(4_000)])
    shares = torch.bincount(drawn, minlength=3) / 4_000
    torch.testing.assert_close(shares, (values / 0.5).softmax(0), rtol=0, atol=0.03)
    assert soft_choice(values.repeat(2, 1), 0, random(3)).tolist() == [2, 2]
    assert soft_choice(values.repeat(2, 1), 1e-3, random(3)).tolist() == [2, 2]
