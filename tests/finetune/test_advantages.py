"""Advantages against their formulas, computed with numpy and by hand."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srsoup_lightning.finetune.advantages import decoupled, group_relative, of_the_front, tracked
from srsoup_lightning.finetune.reinforcement import value_in_first_units
from srsoup_lightning.search.scalarise import Value

numbers = st.floats(-50, 50, width=32)
rounds = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=4)


@given(rounds, st.sampled_from(["group", "round"]))
@settings(max_examples=25, deadline=None)
def test_group_relative_advantages_are_the_formula_of_grpo(values: list[list[float]], spread: str) -> None:
    found = group_relative([torch.tensor(group, dtype=torch.float64) for group in values], spread)
    for group, advantages in zip(values, found, strict=True):
        std = np.std(group) if spread == "group" else np.std(values)
        np.testing.assert_allclose(advantages, (np.array(group) - np.mean(group)) / (std + 1e-4), atol=1e-9)


def test_the_tracker_takes_the_statistics_of_a_prompt_once_it_has_enough_values_and_forgets_the_oldest() -> None:
    buffers: dict[str, list[float]] = {"a cat": [0.0, 10.0]}
    cat, dog = torch.tensor([4.0, 6.0]), torch.tensor([1.0, 2.0])
    of_cat, of_dog = tracked(["a cat", "a dog"], [cat, dog], buffers, size=3, least=3)
    assert buffers == {"a cat": [10.0, 4.0, 6.0], "a dog": [1.0, 2.0]}  # counted after they were added
    kept, everything = np.array([10.0, 4.0, 6.0]), np.array([4.0, 6.0, 1.0, 2.0])
    np.testing.assert_allclose(of_cat, (cat.numpy() - kept.mean()) / (kept.std() + 1e-6), rtol=1e-5)
    np.testing.assert_allclose(of_dog, (dog.numpy() - everything.mean()) / (everything.std() + 1e-6), rtol=1e-5)


def test_decoupled_advantages_keep_a_reward_of_small_spread_and_drop_one_that_is_constant() -> None:
    wide, narrow = torch.tensor([0.0, 1000.0, 0.0, 1000.0]), torch.tensor([0.0, 0.0, 0.01, 0.01])
    rewards = torch.stack([wide, narrow, torch.full((4,), 7.0)], 1)
    (found,) = decoupled([rewards], [torch.tensor([0.4, 0.4, 0.2])])
    assert found.mean().abs() < 1e-6
    assert float(found.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert float(found[1]) == pytest.approx(float(found[2]), abs=0.05)  # best in one of the two rewards each
    assert found[3] > 1 > -1 > found[0]
    (summed,) = group_relative([rewards @ torch.tensor([0.4, 0.4, 0.2])])
    assert summed[1] - summed[2] > 1.9  # while a plain sum only sees the wide one


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
    found = of_the_front([torch.ones(7)], [rewards], [weights])[0]
    front = moocore.is_nondominated(rewards[:, :2].numpy(), maximise=True, keep_weakly=True)
    torch.testing.assert_close(found, torch.from_numpy(front) * (7 / front.sum()), check_dtype=False)
    torch.testing.assert_close(found.mean(), torch.tensor(1.0))
