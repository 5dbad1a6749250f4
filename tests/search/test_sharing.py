"""Sharing weights of the simple policies, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, StepState

TWO = torch.tensor([[1.0, 0], [0, 1], [0.25, 0.75]])
THREE = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.3, 0.5], [0.5, 0.5, 0]])
ONE = torch.tensor([[1.0]])


def state(preferences: Tensor, step: int = 0) -> StepState:
    means, previews = torch.randn(2, len(preferences), 3, 2, 2)
    return StepState(step, 6, means, previews, 0.5, preferences, torch.full_like(preferences, 4, dtype=torch.long))


def share(policy: Sharing, step: int, preferences: Tensor) -> Tensor:
    return policy.share(state(preferences, step))


@pytest.mark.parametrize("preferences", [ONE, TWO, THREE])
def test_never_shares_and_fixed_soup_uses_the_anchors_in_its_phase_alone(preferences: Tensor) -> None:
    own = torch.eye(len(preferences)).unsqueeze(2).expand(-1, -1, preferences.shape[1])
    torch.testing.assert_close(share(Never(), 0, preferences), own)
    anchors = torch.zeros(len(preferences), len(preferences), preferences.shape[1])
    for j in range(preferences.shape[1]):
        anchors[:, j, j] = 1
    for step in range(6):
        expected = anchors if step in (2, 3) else share(Never(), step, preferences)
        torch.testing.assert_close(share(FixedSoup(2, 4), step, preferences), expected)
    assert (Never.anchors, Never.own_noise, FixedSoup.anchors, FixedSoup.own_noise) == (False, False, True, False)


def test_by_default_the_phase_takes_two_fifths_of_the_steps_and_an_empty_one_is_never() -> None:
    for steps, end in {20: 8, 50: 20}.items():
        for step in range(steps):
            at = replace(state(THREE, step), steps=steps)
            torch.testing.assert_close(FixedSoup().share(at), FixedSoup(0, end).share(at))
    for step in range(4):  # an empty phase
        torch.testing.assert_close(share(FixedSoup(2, 2), step, THREE), share(Never(), step, THREE))
