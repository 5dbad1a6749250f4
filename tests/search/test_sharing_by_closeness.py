"""Gates, covers and pools: sharing by closeness."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.search.closeness import bhattacharyya, preview_closeness
from srsoup_lightning.search.gates import AdaptiveAnchors, Gated, nearest_source
from srsoup_lightning.search.pooling import Pooled
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, StepState

MEASURES = ["previews", "means"]
thresholds = st.floats(0, 1)
seeds = st.integers(0, 10_000)
measures = st.sampled_from(MEASURES)


def latents(seed: int, count: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def stand(rewards: int, seed: int, spread: float = 1.0, divisions: int = 3, candidates: int = 4) -> StepState:
    preferences = Preferences.lattice("abc"[:rewards], divisions).trajectories(anchors=True)[0]
    means, previews = latents(seed, len(preferences), spread), latents(seed + 1, len(preferences), spread)
    counts = torch.full_like(preferences, candidates, dtype=torch.long)
    return StepState(0, 6, means, previews, 0.5, preferences, counts)


def test_closeness_by_hand() -> None:
    previews = torch.zeros(3, 3, 2, 2)
    previews[1] = 2.0
    previews[2, 0, 0, 0] = 6.0
    apart = [[0.0, 4.0, 3.0], [4.0, 0.0, (11 * 4 + 16) / 12], [3.0, (11 * 4 + 16) / 12, 0.0]]
    expected = torch.tensor([[math.exp(-distance) for distance in row] for row in apart])
    torch.testing.assert_close(preview_closeness(previews), expected)
    state = stand(2, 0)
    torch.testing.assert_close(state.closeness("means"), bhattacharyya(state.means, state.means, 0.5))
    torch.testing.assert_close(state.closeness("previews"), preview_closeness(state.previews))


@pytest.mark.parametrize("rewards", [1, 2, 3])
@pytest.mark.parametrize("policy", [Gated, AdaptiveAnchors])
@pytest.mark.parametrize("measure", MEASURES)
def test_at_one_point_only_the_anchors_are_sources(policy: type[Sharing], rewards: int, measure: str) -> None:
    state = stand(rewards, 0)
    alike = replace(state, **{measure: getattr(state, measure)[:1].expand_as(state.means)})
    share = policy(1.0, measure).share(alike)
    assert int((share > 0).any(2).any(0).nonzero().max()) < rewards
    torch.testing.assert_close(share.sum(1), torch.ones_like(state.preferences))


@given(seed=seeds, rewards=st.integers(1, 3), measure=measures)
def test_an_open_gate_is_an_endless_soup_and_a_shut_one_the_weighted_sum(seed: int, rewards: int, measure: str) -> None:
    state = stand(rewards, seed)
    for threshold, twin in {0.0: FixedSoup(0, 1), 1.0: Never()}.items():
        torch.testing.assert_close(Gated(threshold, measure).share(state), twin.share(state))


@given(seed=seeds, threshold=thresholds, spread=st.floats(0.1, 3), measure=measures)
def test_a_gate_opens_by_preference_and_reward(seed: int, threshold: float, spread: float, measure: str) -> None:
    state = stand(2, seed, spread, divisions=4)
    near = state.closeness(measure)
    share = Gated(threshold, measure).share(state)
    for p in range(len(near)):
        for j in range(2):
            assert share[p, :, j].nonzero().item() == (j if near[p, j] >= threshold else p)


@given(seed=seeds, count=st.integers(1, 12), anchors=st.integers(1, 3), threshold=thresholds, spread=st.floats(0.1, 3))
def test_a_cover_covers_and_wastes_no_source(seed, count: int, anchors: int, threshold: float, spread: float) -> None:
    near = preview_closeness(latents(seed, max(count, anchors), spread))
    nearest = nearest_source(near, anchors, threshold)
    chosen, best = nearest.unique(), near.gather(1, nearest.unsqueeze(1)).squeeze(1)
    assert bool((best >= threshold).all())
    assert torch.equal(best, near[:, chosen].max(1).values)
    assert torch.equal(nearest[chosen], chosen)  # a source uses its own gradient
    added = chosen[chosen >= anchors]
    among = near[added][:, added]
    assert bool((among[~torch.eye(len(added), dtype=torch.bool)] < threshold).all())


@given(seed=seeds, low=thresholds, high=thresholds)
def test_a_higher_threshold_never_takes_fewer_sources(seed: int, low: float, high: float) -> None:
    near = preview_closeness(latents(seed, 9))
    few, many = (len(nearest_source(near, 2, bound).unique()) for bound in sorted((low, high)))
    assert few <= many


pools = st.builds(Pooled, power=st.floats(0, 8), measure=measures, proportional=st.booleans())


@given(seed=seeds, rewards=st.integers(1, 3), spread=st.floats(0.1, 0.8), policy=pools)
def test_a_pool_is_unbiased_where_gradients_agree_as_trajectories_are_close(seed, rewards, spread, policy) -> None:
    """The gradient of source s has length k(p, s) (counts - 1) along that of p. These lengths must add up to one."""
    state = stand(rewards, seed, spread)
    state = replace(state, counts=policy.counts(6, state.preferences))
    share = policy.share(state)
    k = state.closeness(policy.measure) ** policy.power
    for p in range(len(k)):
        for j in range(rewards):
            asking = state.counts[:, j] > 0
            assert not share[p, ~asking, j].any()
            total = (share[p, :, j] * k[p] * (state.counts[:, j] - 1))[asking].sum()
            assert float(total) == pytest.approx(1, rel=1e-3) or not asking[p]
            ratio = share[p, asking, j] / k[p, asking]
            torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)


def test_a_high_power_leaves_own_gradients() -> None:
    state = stand(2, 0)
    share = Pooled(1e4).share(state)
    wanted = (state.preferences > 0).unsqueeze(1)
    torch.testing.assert_close(share * wanted, Never().share(state) * wanted / 3)


@given(rewards=st.integers(1, 4), divisions=st.integers(1, 6), candidates=st.integers(2, 30))
def test_queries_follow_the_weights(rewards: int, divisions: int, candidates: int) -> None:
    weights = Preferences.lattice("abcd"[:rewards], divisions).weights
    counts = Pooled().counts(candidates, weights)
    assert torch.equal(counts > 0, weights > 0)
    assert bool((counts[weights > 0] >= 2).all())
    assert int(counts.max()) <= candidates
    exact = weights * candidates
    assert bool((((counts - exact).abs() <= 0.5 + 1e-4) | ((counts == 2) & (exact < 2)) | (weights == 0)).all())
    assert torch.equal(Pooled(proportional=False).counts(candidates, weights), candidates * (weights > 0).long())
