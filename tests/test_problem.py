"""The door to the model and the rewards: gradients, encoding, other schedules, and how deep a query goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.samplers import DSG, BestOfN, FKSteering, Problem, WeightedSum
from tests.conftest import Channel, make_module
from tests.mixture import GaussianMixture
from tests.samplers.toys import NAMES, SHAPE, Tally, bind, lattice, linear, linears, normal, oracle, run

STEPS = 5
PLAIN = WeightedSum(num_inference_steps=STEPS, candidates=3)


def problem(rewards: int = 2, spread: float = 0.5, tally: Tally | None = None) -> Problem:
    """One Gaussian component, so that the clean prediction is affine in the latent."""
    denoiser = GaussianMixture(0.3 * normal(1, *SHAPE), spread).bind(STEPS, 1.0)
    return Problem(tally.denoiser(denoiser) if tally else denoiser, oracle(linears(rewards)), 4)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_gradient_is_the_closed_form_s_in_every_mode_of_the_trainer(mode: Callable) -> None:
    """d/dx of a . (x0 / 8 + 1/2), where x0 = c + k (x - sqrt(alpha) c)."""
    door = problem()
    with mode():
        x = 0.1 * normal(3, *SHAPE, seed=5)
        with door.graph("a test"):
            variable = door.variable(x)
            rewards = door.rewards_of(door.denoise(variable, 2).x0, 2)
            gradients = [door.gradient(rewards[:, j], variable, "a", retain_graph=j == 0) for j in range(2)]
    alpha = door.kernel.alphas[2]
    slope = alpha**0.5 * 0.25 / (alpha * 0.25 + 1 - alpha)
    for seed, gradient in enumerate(gradients):
        expected = slope / 8 * normal(*SHAPE, seed=100 + seed)
        torch.testing.assert_close(gradient, expected.expand(3, *SHAPE), rtol=1e-4, atol=1e-6)
    assert (door.ledger.gradients, door.ledger.nfe, door.ledger.decodes) == (6, 3, 3)
    assert door.ledger.queries == {"a": 3, "b": 3}


def test_outside_of_the_graph_nothing_is_recorded() -> None:
    door = problem()
    x = normal(2, *SHAPE).requires_grad_()
    assert not door.denoise(x, 1).x0.requires_grad
    assert not door.decode(x).requires_grad
    assert not door.query(x, 1).requires_grad
    door.oracle.rewards["b"].is_differentiable = False
    refused = pytest.raises(TypeError, match="a test needs gradients from rewards to pixels, which 'b' can't give")
    with refused, door.graph("a test"):
        pytest.fail("the block was entered")
    with door.graph("a test", ["a"]):
        assert door.denoise(door.variable(x), 1).x0.requires_grad


def test_a_reward_that_is_not_finite_is_named_in_the_graph_too() -> None:
    door = Problem(bind(PLAIN), oracle({"a": lambda images: images.mean((1, 2, 3)) / 0}), 4)
    with pytest.raises(RewardError, match="reward 'a' returned inf at denoising step 1"), door.graph("a test"):
        door.rewards_of(door.variable(normal(1, *SHAPE)), 1)


def test_clean_latents_can_be_asked_about_and_encoded() -> None:
    door, clean = problem(), 0.5 * normal(6, *SHAPE)
    scores = door.query(clean, STEPS)
    images = door.decode(clean)
    torch.testing.assert_close(scores, torch.stack([linear(seed)(images) for seed in range(2)], 1))
    torch.testing.assert_close(door.encode(images), clean, rtol=0, atol=1e-5)
    asked = torch.tensor([[True, False]] * 6)
    torch.testing.assert_close(door.query(clean, STEPS, asked), scores * asked)
    assert door.ledger.queries == {"a": 12, "b": 6}


def test_a_trajectory_is_completed_without_noise_on_another_schedule_in_the_same_ledger() -> None:
    """DDIM with eta 0 from a middle level, in jumps over the levels of a schedule of its own."""
    tally = Tally()
    door = problem(tally=tally)
    other = door.reschedule(3, 0.0)
    assert (other.kernel.steps, other.kernel.sigma(0)) == (3, 0.0)
    x = expected = normal(2, *SHAPE)
    for level in range(3):
        prediction = other.denoise(x, level)
        x = other.kernel.jump(level + 1, prediction)
        plain = GaussianMixture(0.3 * normal(1, *SHAPE), 0.5).bind(3, 0.0)
        expected = plain.kernel.mean(level, expected, plain.denoise(expected, level))
        torch.testing.assert_close(x, expected)
    assert other.ledger is door.ledger
    assert door.ledger.nfe == 6


# Two samplers that go through all of it.


@pytest.mark.parametrize("pool", [3, 8])
def test_fk_steering_that_scores_once_is_best_of_n(pool: int) -> None:
    """The last preview is the picture itself, and the particles draw the numbers of the pool."""
    options = {"num_inference_steps": STEPS}
    particles = run(FKSteering(particles=pool, scorings=1, **options), lattice(2, 3))
    best = run(BestOfN(pool=pool, **options), lattice(2, 3))
    torch.testing.assert_close(particles.images, best.images)
    assert particles.ledger.queries == best.ledger.queries == {"a": pool, "b": pool}
    assert particles.ledger.nfe == best.ledger.nfe == STEPS * pool


def test_fk_steering_asks_what_it_says_and_rewards_grow_with_its_strength() -> None:
    sampler = FKSteering(num_inference_steps=STEPS, particles=4, scorings=5)
    alone = run(sampler, Preferences(["a"], [[1.0]]))
    assert (alone.ledger.queries, alone.ledger.nfe) == ({"a": 4 * 5}, 4 * STEPS)
    both = run(sampler, Preferences(NAMES[:2], [[1, 0], [0.5, 0.5]]))
    assert 4 * 5 <= both.ledger.queries["a"] <= 4 + 2 * 4 * 4
    assert both.ledger.queries["b"] == 4 * 5
    assert 4 * STEPS <= both.ledger.nfe <= 4 + 2 * 4 * (STEPS - 1)
    means = []
    for strength in (0.0, 3.0):
        sampler = FKSteering(num_inference_steps=10, particles=16, scorings=9, inverse_temperature=strength)
        soups = [run(sampler, Preferences(["a"], [[1.0]]), seed=seed).rewards for seed in range(6)]
        means.append(float(torch.stack(soups).mean()))
    assert means[1] > means[0]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dsg_steps_on_the_sphere_towards_the_gradient(rate: float) -> None:
    """The reward's gradient is its own direction, for the clean prediction is affine in the latent."""
    evaluations: list[int] = []
    denoiser = GaussianMixture(0.3 * normal(1, *SHAPE), 0.5).bind(STEPS, 1.0)
    door = Problem(denoiser, oracle(linears(1)), 4)
    sampler = DSG(num_inference_steps=STEPS, rate=rate)
    soup = sampler.run(
        door, Preferences(["a"], [[1.0]]), "a lobster", 0, lambda moment: evaluations.append(moment.ledger.nfe)
    )
    noise = NoiseSource("a lobster", 0, SHAPE)
    x, direction = noise.start().unsqueeze(0), normal(*SHAPE, seed=100)
    for step in range(STEPS):
        mean, sigma = door.kernel.transition(step, x, denoiser.denoise(x, step))
        drawn = sigma * noise.step(step)
        radius = sigma * direction.numel() ** 0.5
        mixed = drawn + rate * (radius * direction / direction.norm() - drawn)
        x = mean + radius * mixed / mixed.norm() if sigma else mean
    torch.testing.assert_close(soup.images, denoiser.decode(x), rtol=0, atol=1e-5)
    assert soup.ledger.queries["a"] == soup.ledger.gradients == STEPS - 1
    assert evaluations == list(range(1, STEPS + 1))


# From the Trainer to a reward.


class Deep(Channel):
    """Notes the number of frames from predict_step to its own score, both counted."""

    depths: ClassVar[list[int]] = []

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.depths.append([frame.function for frame in inspect.stack()].index("predict_step") + 1)
        return super().score(images, prompts)


def test_from_predict_step_to_a_reward_s_score_there_are_at_most_twelve_frames() -> None:
    module = make_module({"red": Deep(0), "blue": Channel(2)})
    module.predict_step(SoupRequest("a snail", 0))
    assert max(Deep.depths) <= 12
