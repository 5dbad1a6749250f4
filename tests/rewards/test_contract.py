"""Contract of every reward: it is a metric, and its score of an image depends on that image and its prompt alone."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import pickle
import pkgutil
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MetricCollection

import rewards
from rewards import Colorfulness, Contrast, JPEGCompressibility, Reward
from rewards.base import require_batch, require_images
from tests.rewards.conftest import REWARDS, Files, built, check_gradient, one_line

WORDS = ["a cat", "a dog", "cat", "some long prompt of many words"]


def batch(size: int, seed: int = 0, side: int = 16) -> tuple[Tensor, list[str]]:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(size, 3, side, side, generator=rng), [WORDS[i % len(WORDS)] for i in range(size)]


def test_every_exported_reward_has_a_row(files: Files) -> None:
    exported = {kind for kind in map(rewards.__dict__.get, rewards.__all__) if not inspect.isabstract(kind)}
    assert exported
    assert {type(built(name, files)) for name in REWARDS} >= exported


class Mean(Reward):
    """A user's reward with one network, in the fewest lines."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 1, 1)).train())

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        (network,) = self.networks
        return network(images).mean((1, 2, 3))


def test_scores_are_float32_one_per_image(reward: Reward) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        images, prompts = batch(5)
        scores = reward.score(images.to(dtype), prompts)
        assert scores.shape == (5,)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()


def test_scores_differ_between_images_which_stay_as_they_are(reward: Reward) -> None:
    images, _ = batch(4)
    images[0] = 0.5
    images[1, 0] = 1.0
    kept, prompts = images.clone(), ["cat"] * 4
    assert reward.score(images, prompts).std() > 1e-2
    torch.testing.assert_close(images, kept, rtol=0, atol=0)
    assert prompts == ["cat"] * 4


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**31))
def test_an_image_is_scored_on_its_own(reward: Reward, order: list[int], seed: int) -> None:
    images, prompts = batch(4, seed)
    scores = reward.score(images, prompts)
    permuted = reward.score(images[order], [prompts[i] for i in order])
    single = torch.cat([reward.score(images[i : i + 1], [prompts[i]]) for i in range(4)])
    torch.testing.assert_close(permuted, scores[order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single, scores, rtol=1e-4, atol=1e-4)


def test_metric_is_the_mean_over_uneven_batches(reward: Reward) -> None:
    other, merged = copy.deepcopy(reward), copy.deepcopy(reward)
    first, second = batch(2, seed=1), batch(5, seed=2)
    alone = reward.score(*first), reward.score(*second)
    reward.update(*first)
    torch.testing.assert_close(reward(*second), alone[1].mean())
    assert reward.images == 7
    torch.testing.assert_close(reward.compute(), torch.cat(alone).mean())
    reward.reset()
    reward.update(*second)
    torch.testing.assert_close(reward.compute(), alone[1].mean())
    other.update(*second)
    merged.update(*first)
    merged.merge_state(other)
    torch.testing.assert_close(merged.compute(), torch.cat(alone).mean())


def test_collection_of_rewards(files: Files) -> None:
    clip = copy.deepcopy(built("clip", files))
    members = {"low": JPEGCompressibility(10), "high": JPEGCompressibility(), "clip": clip}
    alike = {"colour": Colorfulness(), "contrast": Contrast()}  # of the same first scores
    for rewards_of, first in ((members, torch.rand(2, 3, 16, 16)), (alike, torch.full((2, 3, 8, 8), 0.5))):
        collection = MetricCollection(dict(rewards_of))
        collection.update(first, ["", ""])
        collection.update(*batch(3))
        for name, value in collection.compute().items():
            scores = copy.deepcopy(rewards_of[name]).score
            torch.testing.assert_close(value, torch.cat([scores(first, ["", ""]), scores(*batch(3))]).mean())


def test_processes_report_the_mean_over_the_images_of_all(reward: Reward) -> None:
    other = copy.deepcopy(reward)
    first, second = batch(2, seed=1), batch(5, seed=2)
    reward.update(*first)
    other.update(*second)
    expected = (2 * reward.compute() + 5 * other.compute()) / 7
    theirs = iter([getattr(other, name) for name in other.metric_state])
    reward.distributed_available_fn = lambda: True
    reward.dist_sync_fn = lambda state, group: [state, next(theirs)]
    reward._computed = None
    torch.testing.assert_close(reward.compute(), expected)
    assert reward.images == 2


def test_copies_score_alike_and_count_apart(reward: Reward) -> None:
    reward.update(*batch(2))
    scores = reward.score(*batch(3))
    for duplicate in (copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r)), Reward.clone):
        twin = duplicate(reward)
        torch.testing.assert_close(twin.compute(), reward.compute())
        torch.testing.assert_close(twin.score(*batch(3)), scores)
        twin.update(*batch(4, seed=3))
        assert (twin.images, reward.images) == (6, 2)
        assert hash(twin) != hash(reward)


def test_flags_and_names(reward: Reward) -> None:
    assert reward.higher_is_better is True
    assert reward.full_state_update is False
    assert type(reward).__name__ in rewards.__all__
    assert type(reward).__name__ in repr(reward)


def test_differentiable_means_that_the_right_gradients_arrive(reward: Reward) -> None:
    images, prompts = batch(2)
    scores = reward.score(images.requires_grad_(), prompts)
    assert scores.requires_grad is reward.is_differentiable
    if reward.is_differentiable:
        scores.sum().backward()
        assert images.grad.isfinite().all()
        assert images.grad.abs().sum() > 0
        check_gradient(reward)


def test_network_belongs_to_nobody_else(network_reward: Reward) -> None:
    module = LightningModule()
    module.rewards = nn.ModuleDict({"network": network_reward, "mean": Mean()})
    for owner in (module, *module.rewards.values()):
        assert not list(owner.parameters())
        assert not owner.state_dict()
    assert network_reward.networks


def test_network_stays_frozen_and_in_eval_mode(network_reward: Reward) -> None:
    for reward in (network_reward, Mean()):
        parent = nn.ModuleDict({"reward": reward}).train()
        assert not reward.training
        assert not any(part.training for network in reward.networks for part in network.modules())
        assert not any(weight.requires_grad for network in reward.networks for weight in network.parameters())
        torch.testing.assert_close(parent["reward"].score(*batch(2)), reward.score(*batch(2)), rtol=0, atol=0)


def test_network_follows_the_device_but_no_dtype(network_reward: Reward) -> None:
    reward = network_reward
    parent = nn.ModuleDict({"reward": reward})
    expected = reward.score(*batch(3))
    parent.to(torch.bfloat16).half().double()
    reward.set_dtype(torch.float16)
    torch.testing.assert_close(reward.score(*batch(3)), expected, rtol=0, atol=0)
    reward.update(*batch(3))
    assert reward.total.dtype == torch.float64
    parent.to("meta")
    devices = {weight.device for network in reward.networks for weight in network.parameters()}
    assert devices | {reward.device, reward.total.device} == {torch.device("meta")}


def test_many_small_batches_lose_no_digits() -> None:
    colour = nn.ModuleList([Colorfulness()]).to(torch.bfloat16)[0]
    images, prompts = batch(1)
    for _ in range(600):
        colour.update(images, prompts)
    torch.testing.assert_close(colour.compute(), colour.score(images, prompts)[0])


def test_metric_made_and_used_in_inference_mode_works_outside(reward: Reward) -> None:
    with torch.inference_mode():
        reward.update(*batch(2))
        inside = reward.score(*batch(2))
    reward.update(*batch(2))
    torch.testing.assert_close(reward.compute(), inside.mean())
    if reward.is_differentiable:
        images, prompts = batch(2)
        reward.score(images.requires_grad_(), prompts).sum().backward()
        assert images.grad.isfinite().all()


def test_plot_draws_the_mean(reward: Reward) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    reward.update(*batch(2))
    assert reward.plot()[0] is not None


RANDOM = torch.rand(5, 3, 4, 4)
BAD = [
    (torch.full((1, 3, 4, 4), 255.0), [""], ValueError, r"\[255, 255\].*want \[0, 1\]"),
    (torch.full((1, 3, 4, 4), -1.0), [""], ValueError, r"\[-1, -1\].*x / 2"),
    (torch.full((1, 3, 4, 4), torch.nan), [""], ValueError, "NaN"),
    (RANDOM[0], [""], ValueError, r"\(3, 4, 4\).*\[None\]"),
    (RANDOM[:1].mT.transpose(1, 3), [""], ValueError, r"\(1, 4, 4, 3\).*permute"),
    (RANDOM[:0], [], ValueError, r"\(0, 3, 4, 4\)"),
    (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), [""], TypeError, r"uint8.*/ 255"),
    ([[0.5]], [""], TypeError, "list.*tensor"),
    (RANDOM[:2], [""], ValueError, "1 prompts for 2 images"),
    (RANDOM, "a cat", TypeError, "'a cat'.*list"),
    (RANDOM[:2], ["a", None], TypeError, "string"),
]


def test_bad_input_is_named_in_one_line(reward: Reward) -> None:
    for images, prompts, error, message in BAD:
        for call in (reward.score, reward.update):
            with one_line(error, message):
                call(images, prompts)


def test_rounding_beyond_the_range_is_forgiven(reward: Reward) -> None:
    images, prompts = batch(2)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = -5e-4, 1 + 5e-4
    require_images(images)
    require_batch(images, prompts)
    assert reward.score(images, prompts).isfinite().all()


def test_a_users_score_is_needed_and_of_one_number_per_image() -> None:
    class Column(Reward):
        def score(self, images: Tensor, prompts: list[str]) -> Tensor:
            return images.mean((2, 3))

    with pytest.raises(ValueError, match=r"Column.score returned shape \(2, 3\) for 2 images"):
        Column().update(*batch(2))
    with pytest.raises(TypeError, match="score"):
        type("Silent", (Reward,), {})()


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(rewards.__path__)])
def test_examples_in_docstrings(module: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert doctest.testmod(importlib.import_module(f"rewards.{module}")).failed == 0
