"""Where memory runs out, the batch is halved, and nothing else changes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.samplers import Auto
from tests.conftest import Channel, MixtureBackbone, make_module
from tests.samplers.toys import bind, lattice, linears, run
from tests.test_module import predict

SAMPLER = Auto(num_inference_steps=4, candidates=5, max_batch=16)
ROOM = 5


def cramped(work: Callable[..., object], room: int = ROOM) -> Callable[..., object]:
    """The same work, on batches of at most so many."""

    def in_little_room(x: Tensor, *arguments: object) -> object:
        if len(x) > room:
            raise torch.OutOfMemoryError(f"tried to allocate room for {len(x)}")
        return work(x, *arguments)

    return in_little_room


@pytest.mark.parametrize("component", ["denoise", "decode", "decode_preview"])
def test_a_smaller_batch_makes_the_same_soup(component: str, caplog: pytest.LogCaptureFixture) -> None:
    roomy, denoiser = run(SAMPLER, lattice(2, 7)), bind(SAMPLER)
    denoiser = replace(denoiser, **{component: cramped(getattr(denoiser, component))})
    with caplog.at_level(logging.WARNING):
        soup = run(SAMPLER, lattice(2, 7), denoiser=denoiser)
    torch.testing.assert_close(soup.images, roomy.images, rtol=0, atol=1e-5)
    assert soup.ledger.queries == roomy.ledger.queries
    halvings = [tuple(map(int, pair)) for pair in re.findall(r"a batch of (\d+): going on with (\d+)", caplog.text)]
    assert halvings
    assert all(after == before // 2 for before, after in halvings)
    assert halvings[-1][1] <= ROOM < halvings[-1][0]


def test_a_rewards_own_network_may_be_what_is_too_large() -> None:
    preferences, rewards = lattice(2, 7), linears(2)
    roomy = run(SAMPLER, preferences, rewards)
    soup = run(SAMPLER, preferences, rewards | {"b": cramped(rewards["b"])})
    torch.testing.assert_close(soup.images, roomy.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(soup.rewards, roomy.rewards, rtol=0, atol=1e-4)


def test_one_latent_that_does_not_fit_is_an_error() -> None:
    denoiser = bind(SAMPLER)
    with pytest.raises(torch.OutOfMemoryError):
        run(SAMPLER, lattice(2, 3), denoiser=replace(denoiser, denoise=cramped(denoiser.denoise, 0)))


def test_the_next_soup_begins_with_what_fits() -> None:
    class Cramped(MixtureBackbone):
        refused = 0

        def bind(self, prompt: str, **options: object) -> Denoiser:
            denoiser = super().bind(prompt, **options)

            def denoise(x: Tensor, level: int) -> object:
                self.refused += len(x) > 6
                return cramped(denoiser.denoise, 6)(x, level)

            return replace(denoiser, denoise=denoise)

    module = make_module({"red": Channel(0), "blue": Channel(2)})
    expected = predict(module, ["a cat", "a dog"], [0])
    module.backbone = Cramped()
    soups = predict(module, ["a cat", "a dog"], [0])
    assert module.backbone.refused == 1
    for soup, roomy in zip(soups, expected, strict=True):
        torch.testing.assert_close(soup.images, roomy.images, rtol=0, atol=1e-5)
