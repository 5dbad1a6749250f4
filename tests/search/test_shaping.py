"""Shapings against the textbook computation in plain Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srsoup_lightning.search.shaping import Shaping, minmax, pool, ranks, squash, standardise

KINDS = {"std": standardise, "tanh": squash, "minmax": minmax, "ranks": ranks}
FEW = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, 4.0]


def centred(rewards: list[float], spread: float) -> list[float]:
    return [(reward - statistics.fmean(rewards)) / spread for reward in rewards]


def mean_ranks(rewards: list[float]) -> list[float]:
    return [statistics.fmean(i for i, other in enumerate(sorted(rewards)) if other == reward) for reward in rewards]


PLAIN: dict[str, Callable[[list[float]], list[float]]] = {
    "std": lambda rewards: centred(rewards, statistics.pstdev(rewards)),
    "tanh": lambda rewards: [math.tanh(score) for score in PLAIN["std"](rewards)],
    "minmax": lambda rewards: centred(rewards, max(rewards) - min(rewards)),
    "ranks": lambda rewards: [rank / (len(rewards) - 1) - 0.5 for rank in mean_ranks(rewards)],
}
whole_numbers = st.lists(st.integers(-50, 50), min_size=2, max_size=12)


@pytest.mark.parametrize("kind", KINDS)
def test_shaping_equals_the_textbook_along_the_last_axis(kind: str) -> None:
    rows = [FEW, FEW[::-1], [0.25 * reward + 1 for reward in FEW]]
    expected = torch.tensor([PLAIN[kind](row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(Shaping(kind)(torch.tensor(rows, dtype=torch.float64)), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(KINDS[kind](torch.tensor(rows)), expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.1, -1 / 3, 7.7e8, 1e-30, 0.0])
@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_equal_rewards_weigh_exactly_nothing(kind: str, value: float, count: int) -> None:
    for dtype in (torch.float32, torch.float64):
        rewards = torch.full((2, count), value, dtype=dtype)
        rewards[1] = torch.arange(count)
        weights = Shaping(kind)(rewards)
        torch.testing.assert_close(weights[0], torch.zeros(count, dtype=dtype), rtol=0, atol=0)
        assert (weights[1].abs().sum() > 0.5) == (count > 1)


@pytest.mark.parametrize("shape", [standardise, ranks])
@given(rewards=whole_numbers, scale=st.floats(0.5, 100), shift=st.integers(-100, 100))
def test_shift_and_scale_change_nothing(shape: Callable, rewards: list[int], scale: float, shift: int) -> None:
    raw = torch.tensor(rewards, dtype=torch.float64)
    torch.testing.assert_close(shape(scale * raw + shift), shape(raw), rtol=1e-6, atol=1e-6)


@given(rewards=whole_numbers)
def test_ranks_see_the_order_alone(rewards: list[int]) -> None:
    raw = torch.tensor(rewards, dtype=torch.float64)
    torch.testing.assert_close(ranks((raw / 10).exp()), ranks(raw), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["std", "minmax", "ranks"])
@given(rewards=whole_numbers)
def test_weights_sum_to_zero(kind: str, rewards: list[int]) -> None:
    assert abs(Shaping(kind)(torch.tensor(rewards, dtype=torch.float64)).sum()) < 1e-9


COUNTED = [
    ({"target": 1.0}, {0, 2, 5, 6, 7}),
    ({"top_fraction": 0.5}, {0, 2, 5, 7}),
    ({"top_fraction": 0.01}, {5}),
    ({"target": 3.5, "top_fraction": 0.5}, {2, 5, 7}),
    ({"target": 9.0}, set()),
    ({"target": -100.0}, set(range(8))),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("options", "counted"), COUNTED)
def test_only_the_best_above_the_target_count(kind: str, options: dict[str, float], counted: set[int]) -> None:
    kept = torch.tensor([float(i in counted) for i in range(len(FEW))])
    weights = Shaping(kind, **options)(torch.tensor(FEW))
    torch.testing.assert_close(weights, torch.tensor(PLAIN[kind](FEW)) * kept, rtol=1e-5, atol=1e-6)


def test_a_sixth_of_thirty_is_five() -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).float()
    weights = Shaping("std", top_fraction=1 / 6)(order)
    assert set(order[weights != 0].tolist()) == {25, 26, 27, 28, 29}


ragged = st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=6), min_size=1, max_size=5)


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The rows side by side, with noise where a row has nothing, and where it has something."""
    widest = max(map(len, rows)) + 1
    rewards = torch.randn(len(rows), widest, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e3
    asked = torch.zeros(len(rows), widest, dtype=torch.bool)
    for i, row in enumerate(rows):
        columns = torch.randperm(widest, generator=torch.Generator().manual_seed(i))[: len(row)].sort().values
        rewards[i, columns], asked[i, columns] = torch.tensor(row, dtype=torch.float64), True
    return rewards, asked


@pytest.mark.parametrize("options", [{}, {"top_fraction": 0.5}, {"target": 1.0}])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(rows=ragged)
def test_candidates_that_were_not_asked_are_as_if_they_were_not_there(kind: str, options: dict, rows: list) -> None:
    rewards, asked = padded(rows)
    weights = Shaping(kind, **options)(rewards, asked)
    assert not weights[~asked].any()
    for i, row in enumerate(rows):
        alone = Shaping(kind, **options)(torch.tensor([row], dtype=torch.float64))[0]
        torch.testing.assert_close(weights[i][asked[i]], alone, rtol=1e-6, atol=1e-6)


@given(rows=ragged)
def test_pooling_divides_the_centred_rewards_of_all_sources_by_one_unbiased_spread(rows: list[list[int]]) -> None:
    rewards, asked = padded(rows)
    deviations = [centred(row, 1) for row in rows]
    freedom = sum(len(row) - 1 for row in rows)
    spread = math.sqrt(sum(each**2 for row in deviations for each in row) / max(freedom, 1))
    weights = pool(rewards, asked)
    for i, row in enumerate(deviations):
        expected = torch.tensor([each / spread if spread else 0.0 for each in row], dtype=torch.float64)
        torch.testing.assert_close(weights[i][asked[i]], expected, rtol=1e-6, atol=1e-6)


def test_pooling_one_source_standardises_without_bias() -> None:
    rewards = torch.tensor([FEW], dtype=torch.float64)
    bias = math.sqrt((len(FEW) - 1) / len(FEW))
    torch.testing.assert_close(pool(rewards), bias * standardise(rewards), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", [*KINDS, "pool"])
def test_a_source_that_was_not_asked_weighs_nothing(kind: str) -> None:
    asked = torch.tensor([[True, True, True], [False, False, False]])
    weights = Shaping(kind)(torch.tensor([[1.0, 2.0, 4.0], [5.0, 6.0, 7.0]]), asked)
    assert weights[0].abs().sum() > 0.5
    assert torch.equal(weights[1], torch.zeros(3))
