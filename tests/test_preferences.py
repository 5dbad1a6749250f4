"""Points on the simplex: counted, validated, named, ordered."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning import Preferences

AB = ["a", "b"]


@given(count=st.integers(1, 4), divisions=st.integers(1, 6))
def test_a_lattice_is_every_point_of_the_simplex_with_that_spacing_once(count: int, divisions: int) -> None:
    lattice = Preferences.lattice([f"r{j}" for j in range(count)], divisions)
    assert len(lattice) == len(lattice.names) == math.comb(divisions + count - 1, count - 1)
    shares = lattice.weights.double() * divisions
    assert lattice.weights.min() >= 0
    torch.testing.assert_close(shares, shares.round(), rtol=0, atol=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.full((len(lattice),), float(divisions), dtype=torch.float64))
    assert len({tuple(row) for row in shares.round().tolist()}) == len(lattice)


def test_a_lattice_goes_from_the_first_anchor_to_the_last() -> None:
    assert Preferences.lattice(AB, 4).weights.tolist() == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    three = Preferences.lattice(["a", "b", "c"], 2).weights.tolist()
    assert three == [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]


def test_points_are_lists_or_mappings_named_by_their_weights_or_by_you() -> None:
    listed = Preferences(AB, [[1, 0], {"b": 1}, {"b": 0.75, "a": 0.25}])
    assert listed.weights.tolist() == [[1, 0], [0, 1], [0.25, 0.75]]
    assert listed.weights.dtype == torch.float32
    assert listed.names == ["a1-b0", "a0-b1", "a0.25-b0.75"]
    assert listed.rewards == ("a", "b")
    named = Preferences(AB, {"small": [0, 1], "middle": {"a": 0.5, "b": 0.5}})
    assert named.names == ["small", "middle"]
    assert "middle" in repr(named)
    assert len(Preferences(["a", "b", "c"], [[1 / 3, 1 / 3, 1 / 3], [0.1, 0.2, 0.7]])) == 2  # thirds sum to nearly 1


def test_weights_are_normalised_on_request() -> None:
    assert Preferences(AB, [[3, 1], {"b": 2}], normalise=True).weights.tolist() == [[0.75, 0.25], [0, 1]]
    for point, message in (([0, 0], "sums to 0"), ([-1, 3], "leaves the simplex")):
        with pytest.raises(ValueError, match=message):
            Preferences(AB, [point], normalise=True)


@given(picked=st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True))
def test_trajectories_are_the_anchors_then_the_rest_and_lead_back(picked: list[int]) -> None:
    names = ["a", "b", "c"]
    preferences = Preferences(names, [Preferences.lattice(names, 3).weights.tolist()[i] for i in picked])
    rows, indices = preferences.trajectories(anchors=True)
    torch.testing.assert_close(rows[:3], torch.eye(3), rtol=0, atol=0)
    torch.testing.assert_close(rows[indices], preferences.weights, rtol=0, atol=0)
    mixtures = [row for row in preferences.weights.tolist() if max(row) < 1]
    assert rows[3:].tolist() == mixtures
    rows, indices = preferences.trajectories(anchors=False)
    torch.testing.assert_close(rows, preferences.weights, rtol=0, atol=0)
    assert indices == list(range(len(picked)))


BAD = {
    "no rewards": ([], [[]], r"rewards are \[\]: name at least one"),
    "reward twice": (["a", "a"], [[1, 0]], "name at least one, each once"),
    "no points": (AB, [], "no preferences: give at least one"),
    "too short": (AB, [[1.0]], r"\[1.0\] has 1 weights: give one for each of \['a', 'b'\]"),
    "too long": (AB, [[1, 0, 0]], "has 3 weights"),
    "unknown reward": (AB, [{"a": 0.5, "z": 0.5}], r"names \['z'\]: the rewards are \['a', 'b'\]"),
    "negative": (AB, [[1.5, -0.5]], "leaves the simplex"),
    "nan": (AB, [[math.nan, 1]], "leaves the simplex"),
    "infinite": (AB, [[math.inf, 0]], "leaves the simplex"),
    "sum": (AB, [[0.5, 0.4]], "sums to 0.9: weights must sum to 1"),
    "sum, nearly": (AB, [[0.5, 0.50001]], "sums to 1.00001"),
    "point twice": (AB, [[1, 0], [0, 1], {"a": 1}], "'a1-b0' and 'a1-b0' are the same point"),
    "point twice, named": (AB, {"x": [1, 0], "y": [1, 0]}, "'x' and 'y' are the same point"),
    "too close to name": (AB, [[0.5, 0.5], [0.50001, 0.49999]], "two preferences are called 'a0.5-b0.5'"),
    "no file name": (AB, {"../a": [1, 0]}, "'../a' can't be a file name"),
    "no file name either": (["a b", "c"], [[1, 0]], "can't be a file name"),
}


@pytest.mark.parametrize(("rewards", "weights", "message"), BAD.values(), ids=BAD)
def test_what_is_no_preference_is_refused_in_one_line(rewards: list[str], weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Preferences(rewards, weights)
    assert "\n" not in str(caught.value)


def test_a_lattice_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="divisions is 0: a lattice needs at least 1"):
        Preferences.lattice(AB, 0)
    with pytest.raises(ValueError, match="name at least"):
        Preferences.lattice([], 3)


def test_a_lattice_can_have_rewards_that_are_held_out() -> None:
    alone, beside = Preferences.lattice(AB, 2), Preferences.lattice(AB, 2, held_out=["c"])
    assert (beside.rewards, beside.names, beside.weighted) == (("a", "b", "c"), alone.names, ["a", "b"])
    assert beside.weights.tolist() == [[*row, 0.0] for row in alone.weights.tolist()]
    kept = beside.without_held_out()
    assert (kept.rewards, kept.names) == (alone.rewards, alone.names)
    assert torch.equal(kept.weights, alone.weights)
    assert alone.without_held_out() is alone
