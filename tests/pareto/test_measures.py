"""Measures of fronts by hand, by published examples, by other implementations and by what must not change them."""

from __future__ import annotations

import math
from itertools import combinations

import moocore
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from srsoup_lightning.pareto import (
    Diversity,
    InvertedGenerationalDistance,
    MaximumSpread,
    Monotonicity,
    Utility,
    inverted_distance,
    maximum_spread,
    mean_distance,
    nondominated,
    spearman,
    thumbnails,
    utility,
)

QUICK = settings(max_examples=30, deadline=None)
NAN = torch.tensor([[1.0, math.nan]])


def fronts(rewards: int = 2) -> st.SearchStrategy[Tensor]:
    points = st.lists(st.lists(st.integers(-20, 20), min_size=rewards, max_size=rewards), min_size=1, max_size=8)
    return points.map(lambda rows: torch.tensor(rows, dtype=torch.float64))


def test_nondominated_points_and_utilities_by_hand() -> None:
    points = torch.tensor([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [0.0, 3.0]])
    assert nondominated(points).tolist() == [[1, 3], [2, 2], [3, 1]]
    points, weights = torch.tensor([[2.0, -4.0], [1.0, 3.0]]), torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    assert utility(points, weights).tolist() == [0.5, 3.0]


@QUICK
@given(fronts(3))
def test_a_point_is_nondominated_if_no_other_beats_it(points: Tensor) -> None:
    at_least, better = (points[:, None] >= points).all(2), (points[:, None] > points).any(2)
    free = points[~(at_least & better).any(0)].unique(dim=0)
    assert nondominated(points).unique(dim=0).tolist() == free.tolist()


def test_the_published_example_where_plain_distances_mislead() -> None:
    """Example 4 of Ishibuchi et al. 2015, mirrored as rewards: A is better than B, though plain IGD prefers B."""
    reference = -torch.tensor([[10.0, 0.0], [6.0, 1.0], [2.0, 2.0], [1.0, 6.0], [0.0, 10.0]])
    a, b = -torch.tensor([[4.0, 2.0], [3.0, 3.0], [2.0, 4.0]]), -torch.tensor([[8.0, 2.0], [4.0, 4.0], [2.0, 8.0]])
    assert inverted_distance(a, reference) == pytest.approx(1.482842712474619)
    assert inverted_distance(b, reference) == pytest.approx(2.260112615949154)
    assert moocore.igd((-a).numpy(), (-reference).numpy()) > moocore.igd((-b).numpy(), (-reference).numpy())


@QUICK
@given(fronts(3), fronts(3), fronts(3))
def test_a_distance_is_the_mean_way_up_and_no_point_more_makes_it_longer(
    points: Tensor, more: Tensor, reference: Tensor
) -> None:
    ways = (reference[:, None] - points).clamp_min(0).norm(dim=2)
    assert inverted_distance(points, reference) == pytest.approx(float(ways.amin(1).mean()))
    joined = torch.cat([points, more])
    assert inverted_distance(joined, reference) <= inverted_distance(points, reference) + 1e-9
    assert inverted_distance(joined, nondominated(points)) == 0


def test_a_spread_is_the_diagonal_of_the_front_alone() -> None:
    assert maximum_spread(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-9.0, -9.0]])) == pytest.approx(1)
    assert maximum_spread(torch.tensor([[0.0, 4.0], [3.0, 0.0], [1.0, 3.0]])) == pytest.approx(5 / math.sqrt(2))
    assert maximum_spread(torch.eye(3)) == pytest.approx(1)
    assert maximum_spread(torch.tensor([[2.0, 3.0]])) == 0
    assert maximum_spread(torch.tensor([[2.0], [7.0]])) == 0


@QUICK
@given(fronts(3), st.permutations(range(3)), st.integers(-5, 5), st.integers(1, 4))
def test_a_spread_does_not_depend_on_offset_or_order(points: Tensor, order: list[int], shift: int, factor: int) -> None:
    assert maximum_spread(factor * points[:, order] + shift) == pytest.approx(factor * maximum_spread(points))


def test_rank_correlations_by_hand() -> None:
    """1 - 6 sum d^2 / n (n^2 - 1) without ties; with a tie, Pearson's correlation of 1, 2.5, 2.5, 4 and 1, 2, 3, 4."""
    for first, second, expected in (
        ([0.0, 0.5, 1.0], [-1.0, 5.0, 500.0], 1),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], 1 - 24 / 60),
        ([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 4.5 / math.sqrt(4.5 * 5)),
    ):
        assert spearman(torch.tensor(first), torch.tensor(second)) == pytest.approx(expected)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9))
def test_rank_correlations_are_torchmetrics_own(pairs: list[tuple[int, int]]) -> None:
    first, second = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    if len(first.unique()) > 1 and len(second.unique()) > 1:
        assert spearman(first, second) == pytest.approx(float(spearman_corrcoef(first, second)), abs=1e-4)
        assert spearman(first.exp(), -second) == pytest.approx(-spearman(first, second))


def test_a_distance_between_pictures_is_the_root_mean_square_of_their_pixels() -> None:
    images = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 8, 8)
    assert mean_distance(thumbnails(images)) == pytest.approx((0.5 + 0.5 + 1) / 3)
    left = torch.zeros(2, 3, 8, 8)
    left[1, 0, :, :4] = 1
    assert mean_distance(thumbnails(left)) == pytest.approx(math.sqrt(1 / 6))
    # Thumbnails ignore resolution and grain.
    coarse = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    fine = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(thumbnails(fine), thumbnails(coarse))
    checks = ((torch.arange(256)[:, None] + torch.arange(256)) % 2).float().expand(3, 256, 256)
    assert mean_distance(thumbnails(torch.stack([checks, 1 - checks]))) < 1e-6


@QUICK
@given(fronts(4).filter(lambda vectors: len(vectors) > 1))
def test_a_mean_distance_is_over_all_pairs(vectors: Tensor) -> None:
    pairs = [float((a - b).norm()) for a, b in combinations(vectors, 2)]
    assert mean_distance(vectors) == pytest.approx(sum(pairs) / len(pairs))


def test_metrics_are_means_over_fronts() -> None:
    a, b = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[2.0, 2.0]])
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    distance, spread, worth = InvertedGenerationalDistance(), MaximumSpread(), Utility()
    for points in (a, b):
        distance.update(points, b)
        spread.update(points)
        worth.update(points, weights[: len(points)])
    assert float(distance.compute()) == pytest.approx(math.sqrt(5) / 2)
    assert float(spread.compute()) == pytest.approx(0.5)
    assert float(worth.compute()) == pytest.approx((1 + 2) / 2)
    steered = Monotonicity(2)
    steered.update(a, weights)
    steered.update(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), weights)
    assert steered.compute().tolist() == [1, 0]
    reds = Diversity(embedding=lambda images: images[:, 0].mean((1, 2))[:, None])
    reds.update(torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]))
    assert float(reds.compute()) == 1


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: nondominated(NAN), "isn't finite"),
        (lambda: nondominated(torch.ones(0, 2)), r"points are \(0, 2\): give \(P, M\), at least one"),
        (lambda: inverted_distance(torch.ones(1, 2), NAN), "isn't finite"),
        (lambda: inverted_distance(NAN, torch.ones(1, 2)), "isn't finite"),
        (lambda: inverted_distance(torch.ones(1, 2), torch.ones(1, 3)), r"\(1, 2\) and \(1, 3\)"),
        (lambda: maximum_spread(NAN), "isn't finite"),
        (lambda: utility(torch.ones(3, 2), torch.ones(2, 2)), "3 points and 2 weights"),
        (lambda: utility(NAN, torch.ones(1, 2)), "isn't finite"),
        (lambda: spearman(torch.ones(3), torch.arange(3.0)), "all 3 values are 1: a constant"),
        (lambda: spearman(torch.arange(3.0), torch.full((3,), 7.0)), "all 3 values are 7: a constant"),
        (lambda: spearman(NAN[0], torch.arange(2.0)), "isn't finite"),
        (lambda: Monotonicity(2).update(torch.ones(2, 3), torch.ones(2, 3)), r"give \(P, 2\)"),
        (lambda: mean_distance(torch.ones(1, 5)), "a single picture has no distance"),
        (lambda: mean_distance(NAN.repeat(2, 1)), "isn't finite"),
        (lambda: thumbnails(torch.ones(3, 8, 8)), r"images are \(3, 8, 8\)"),
        (lambda: Utility().compute(), "Utility has seen no front"),
    ],
)
def test_points_without_a_measure_are_refused(act: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
