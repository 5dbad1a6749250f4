"""Advantages against their formulas, computed with numpy and by hand."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srsoup_lightning.finetune.advantages import Compared, decoupled, group_relative, of_the_front, tracked
from srsoup_lightning.finetune.reinforcement import value_in_first_units
from srsoup_lightning.search.scalarise import Value

pairs = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=2)
rounds = st.lists(st.lists(pairs, min_size=3, max_size=3), min_size=2, max_size=4)
PREFERENCE = torch.tensor([0.3, 0.7], dtype=torch.float64)


@given(rounds, st.sampled_from(["group", "round"]))
@settings(max_examples=25, deadline=None)
def test_group_relative_advantages_of_any_preference_are_the_formula_of_grpo(given_: list, spread: str) -> None:
    rewards = torch.tensor(given_, dtype=torch.float64)
    values = (rewards @ PREFERENCE).numpy()
    for group, compared in zip(values, group_relative(list(rewards), spread), strict=True):
        std = np.std(group) if spread == "group" else np.std(values)
        expected = (group - np.mean(group)) / (std + 1e-4)
        np.testing.assert_allclose(compared.advantages(PREFERENCE), expected, atol=1e-7)
        np.testing.assert_allclose(compared.advantages(PREFERENCE.expand(3, 2)), expected, atol=1e-7)


def test_the_tracker_takes_the_statistics_of_a_prompt_once_it_has_enough_values_and_forgets_the_oldest() -> None:
    weights = torch.tensor([0.25, 0.75])
    buffers = {"a cat": [[0.0, 0.0], [10.0, 2.0]]}
    cat, dog = torch.tensor([[4.0, 1.0], [6.0, 8.0]]), torch.tensor([[1.0, 3.0], [2.0, 9.0]])
    found = [each.advantages(weights) for each in tracked(["a cat", "a dog"], [cat, dog], buffers, size=3, least=3)]
    # The newest ones are counted after they were added. Each is kept by reward, so any preference has its statistics.
    assert buffers == {"a cat": [[10.0, 2.0], [4.0, 1.0], [6.0, 8.0]], "a dog": [[1.0, 3.0], [2.0, 9.0]]}
    kept, everything = np.array([4.0, 1.75, 7.5]), np.array([1.75, 7.5, 2.5, 7.25])
    for own, known, advantages in zip(([1.75, 7.5], [2.5, 7.25]), (kept, everything), found, strict=True):
        np.testing.assert_allclose(advantages, (np.array(own) - known.mean()) / (known.std() + 1e-6), rtol=1e-5)


def test_decoupled_advantages_keep_a_reward_of_small_spread_and_drop_one_that_is_constant() -> None:
    wide, narrow = torch.tensor([0.0, 1000.0, 0.0, 1000.0]), torch.tensor([0.0, 0.0, 0.01, 0.01])
    rewards, weights = torch.stack([wide, narrow, torch.full((4,), 7.0)], 1), torch.tensor([0.4, 0.4, 0.2])
    (compared,) = decoupled([rewards])
    found = compared.advantages(weights)
    assert found.mean().abs() < 1e-6
    assert float(found.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert float(found[1]) == pytest.approx(float(found[2]), abs=0.05)  # best in one of the two rewards each
    assert found[3] > 1 > -1 > found[0]
    opposite = torch.eye(3)[[0, 1, 0, 1]]  # of each sample, its value to another reward alone
    torch.testing.assert_close(compared.advantages(opposite).sign(), torch.tensor([-1.0, -1.0, -1.0, 1.0]).double())
    (summed,) = group_relative([rewards])
    assert summed.advantages(weights)[1] - summed.advantages(weights)[2] > 1.9  # a plain sum only sees the wide one


def test_units_are_those_of_the_first_round_in_which_a_reward_varied() -> None:
    memory: dict[str, object] = {}
    value = Value(torch.tensor([0.5, 0.5]))
    constant = torch.tensor([[0.0, 3.0], [2.0, 3.0]])
    first = value_in_first_units(constant, memory, value)
    torch.testing.assert_close(first(constant), torch.tensor([-0.5, 0.5]))  # mean 1, standard deviation 1
    varied = torch.tensor([[10.0, 3.0], [20.0, 7.0]])
    second = value_in_first_units(varied, memory, value)
    torch.testing.assert_close(second(varied), torch.tensor([0.5 * 9 - 0.5, 0.5 * 19 + 0.5]))
    assert memory == {"units": {"zero": [1.0, 5.0], "unit": [1.0, 2.0]}}


@given(st.integers(0, 10_000))
def test_the_front_keeps_what_nobody_dominates_and_its_mean(seed: int) -> None:
    rewards = torch.randint(0, 4, (7, 3), generator=torch.Generator().manual_seed(seed)).float()
    weights = torch.tensor([0.5, 0.5, 0.0])
    compared = Compared(torch.ones(7, 3), torch.eye(3), 0.0)
    found = of_the_front([compared], [rewards], weights > 0)[0].deviations[:, 0]
    front = moocore.is_nondominated(rewards[:, :2].numpy(), maximise=True, keep_weakly=True)
    torch.testing.assert_close(found, torch.from_numpy(front) * (7 / front.sum()), check_dtype=False)
    torch.testing.assert_close(found.mean(), torch.tensor(1.0))
