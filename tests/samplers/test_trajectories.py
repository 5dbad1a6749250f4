"""How hard each reward pulls, however many of its candidates are asked about."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srsoup_lightning.samplers import Shaping
from srsoup_lightning.search.candidates import Answers, shaped_answers
from srsoup_lightning.search.surrogate import GaussianProcess

SOURCES, N, SHAPE, REPEATS = 12, 16, (4, 8, 8), 20


def pulls(asked_about: int, seed: int) -> Tensor:
    """How far two linear rewards' search gradients reach along their own gradients: 1 for a normal draw's expectation.

    The first is asked about all candidates, the second about some.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(SOURCES, N, *SHAPE, generator=generator)
    clean = 0.3 * torch.randn(SOURCES, 1, *SHAPE, generator=generator) + 0.5 * noise
    slopes = torch.nn.functional.normalize(torch.randn(2, *SHAPE, generator=generator).flatten(1)).view(2, *SHAPE)
    asked = (torch.arange(N) < torch.tensor([[N], [asked_about]])).expand(SOURCES, 2, N)
    rewards = torch.einsum("snchw,mchw->smn", clean, slopes) * asked
    answers, processes = Answers(rewards, asked, clean), [GaussianProcess(8) for _ in range(2)]
    weights = shaped_answers(answers, answers.predicted(processes), [Shaping("pool")] * 2)
    return torch.einsum("smn,snchw,mchw->m", weights, noise, slopes) / (SOURCES * N)


@pytest.mark.parametrize("asked_about", [8, 10])
def test_a_reward_that_is_predicted_pulls_like_one_that_is_asked(asked_about: int) -> None:
    of_all, of_some = torch.stack([pulls(asked_about, seed) for seed in range(REPEATS)]).mean(0).tolist()
    assert of_all == pytest.approx(1, abs=0.1)
    assert of_some == pytest.approx(1, abs=0.12)
