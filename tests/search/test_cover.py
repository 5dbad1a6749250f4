"""Gates and covers: who is close enough to borrow from."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.search.gradient import bhattacharyya
from srsoup_lightning.search.sharing import AdaptiveAnchors, FixedSoup, Gated, Never, Pooled, Sharing, nearest_supplier

SIGMA = 0.5
thresholds = st.floats(0, 1)
seeds = st.integers(0, 10_000)


def means(seed: int, count: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def weights(rewards: int, divisions: int = 3) -> Tensor:
    return Preferences.lattice("abc"[:rewards], divisions).trajectories(anchors=True)[0]


@pytest.mark.parametrize("rewards", [1, 2, 3])
@pytest.mark.parametrize("policy", [Gated, AdaptiveAnchors])
def test_at_one_point_nobody_but_the_first_or_the_anchors_supplies(policy: type[Sharing], rewards: int) -> None:
    preferences = weights(rewards)
    at_one_point = means(0, 1).expand(len(preferences), 3, 2, 2)
    share = policy(1.0).share(0, at_one_point, SIGMA, preferences)
    assert int((share > 0).any(2).any(0).nonzero().max()) < rewards
    torch.testing.assert_close(share.sum(1), torch.ones(len(preferences), rewards))


@given(seed=seeds, rewards=st.integers(1, 3))
def test_a_gate_that_never_closes_is_a_soup_without_end_and_one_that_is_shut_the_weighted_sum(
    seed: int, rewards: int
) -> None:
    preferences = weights(rewards)
    apart = means(seed, len(preferences))
    expected = {0.0: FixedSoup(0, 1), 1.0: Never()}
    for threshold, twin in expected.items():
        found = Gated(threshold).share(0, apart, SIGMA, preferences)
        torch.testing.assert_close(found, twin.share(0, apart, SIGMA, preferences))


@given(seed=seeds, threshold=thresholds, spread=st.floats(0.1, 3))
def test_a_gate_opens_by_preference_and_reward(seed: int, threshold: float, spread: float) -> None:
    preferences = weights(2, 4)
    centres = means(seed, len(preferences), spread)
    share = Gated(threshold).share(0, centres, SIGMA, preferences)
    for p in range(len(preferences)):
        for j in range(2):
            close = float(bhattacharyya(centres[p : p + 1], centres[j : j + 1], SIGMA)) >= threshold
            assert share[p, :, j].nonzero().item() == (j if close else p)


@given(seed=seeds, count=st.integers(1, 12), anchors=st.integers(1, 3), threshold=thresholds, spread=st.floats(0.1, 3))
def test_a_cover_covers_and_wastes_no_supplier(
    seed: int, count: int, anchors: int, threshold: float, spread: float
) -> None:
    centres = means(seed, max(count, anchors), spread)
    closeness = bhattacharyya(centres, centres, SIGMA)
    nearest = nearest_supplier(closeness, anchors, threshold)
    everyone = torch.arange(len(centres))
    chosen = nearest.unique()
    assert bool((closeness[everyone, nearest] >= threshold).all())
    assert torch.equal(closeness[everyone, nearest], closeness[:, chosen].max(1).values)
    assert torch.equal(nearest[chosen], chosen)  # a supplier listens to itself
    added = chosen[chosen >= anchors]
    among = closeness[added][:, added]
    assert bool((among[~torch.eye(len(added), dtype=torch.bool)] < threshold).all())


@given(seed=seeds, low=thresholds, high=thresholds)
def test_a_higher_threshold_never_takes_fewer_suppliers(seed: int, low: float, high: float) -> None:
    closeness = bhattacharyya(means(seed, 9), means(seed, 9), SIGMA)
    few, many = (len(nearest_supplier(closeness, 2, bound).unique()) for bound in sorted((low, high)))
    assert few <= many


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("policy", [Gated, AdaptiveAnchors])
def test_a_threshold_outside_its_range_is_refused(policy: type[Sharing], threshold: float) -> None:
    with pytest.raises(ValueError, match=r"threshold is .*: closeness lies in \[0, 1\]"):
        policy(threshold)


@given(seed=seeds, rewards=st.integers(1, 3), power=st.floats(0, 8), spread=st.floats(0.1, 1))
def test_pooling_weighs_by_closeness_those_who_ask(seed: int, rewards: int, power: float, spread: float) -> None:
    preferences = weights(rewards)
    centres = means(seed, len(preferences), spread)
    share = Pooled(power).share(0, centres, SIGMA, preferences)
    closeness = bhattacharyya(centres, centres, SIGMA)
    for p in range(len(preferences)):
        for j in range(rewards):
            asking = preferences[:, j] > 0
            assert not share[p, ~asking, j].any()
            expected = closeness[p, asking] ** power
            torch.testing.assert_close(share[p, asking, j], expected / expected.norm(), rtol=1e-4, atol=1e-6)


def test_a_high_power_listens_to_itself() -> None:
    preferences = weights(2)
    apart = means(0, len(preferences))
    share = Pooled(1e4).share(0, apart, SIGMA, preferences)
    wanted = (preferences > 0).unsqueeze(1)
    torch.testing.assert_close(share * wanted, Never().share(0, apart, SIGMA, preferences) * wanted)


@pytest.mark.parametrize("power", [-0.1, float("inf"), float("nan")])
def test_a_power_outside_its_range_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=r"power is .*: give a finite number, at least 0"):
        Pooled(power)
