"""The dense view of preferences: order probabilities by brute force, densities from torch, and a mixture that tilts."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from srsoup_lightning.diffusion.flow import FlowSDE
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.finetune import DenseDPO
from srsoup_lightning.finetune.dense import list_likelihood, ranked
from srsoup_lightning.finetune.finetuning import Finetuning
from tests.finetune.tilted import Tilted, brightness, train, tuning, with_kernel

PROMPTS = ["a cat", "a dog"]
FLOW = FlowSDE((1.0, 0.8, 0.6, 0.4, 0.2), 0.7)


def dense(**options: object) -> DenseDPO:
    small = {"num_inference_steps": 5, "groups": 2, "group_size": 6, "train_batch": 100, "clip": 0.05}
    return DenseDPO(**small | options)


def collected(objective: DenseDPO, policy: Tilted, flow: bool = False) -> Finetuning:
    change = {"change": lambda denoiser: with_kernel(denoiser, FLOW)} if flow else {}
    fit = tuning(objective, policy, **change)
    fit.collect(PROMPTS)
    return fit


def log_ratios(fit: Finetuning, policy: Tilted, group: int, draw: int) -> Tensor:
    """Log-likelihood ratios (S, steps) of the drawn steps, best trajectories first, by torch's own density."""
    rollout, objective, ratios = fit.rollouts[group], fit.objective, []
    kept, kernel = sorted(set(rollout.steps)), rollout.problem.kernel
    for step in rollout.steps[draw * objective.steps_per_logit : (draw + 1) * objective.steps_per_logit]:
        state, following = (rollout.tensors[name][:, kept.index(step)].double() for name in ("state", "next"))

        def density(step: int = step, state: Tensor = state, following: Tensor = following) -> Tensor:
            mean = kernel.mean(step, state, rollout.problem.denoiser.denoise(state, step))
            return Normal(mean, kernel.sigma(step)).log_prob(following).mean((1, 2, 3))

        with policy.reference():
            base = density()
        ratios.append(density() - base)
    return torch.stack(ratios, 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=4))
def test_an_order_has_the_probability_of_drawing_the_best_one_after_the_other(logits: list[float]) -> None:
    strengths = torch.tensor(logits, dtype=torch.float64)
    chances = {}
    for order in permutations(range(len(logits))):
        chance = 1.0
        for place in range(len(order)):
            rest = strengths[list(order[place:])].exp()
            chance *= (rest[0] / rest.sum()).item()
        chances[order] = list_likelihood(strengths[list(order)].unsqueeze(0)).exp().item()
        assert chances[order] == pytest.approx(chance, rel=1e-9)
    assert sum(chances.values()) == pytest.approx(1)
    if len(logits) == 2:
        expected = torch.nn.functional.logsigmoid(strengths[0] - strengths[1])
        torch.testing.assert_close(list_likelihood(strengths.unsqueeze(0))[0], expected)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("compared", [2, 3])
def test_the_loss_and_its_gradient_are_those_of_torch_s_densities_in_parts_of_any_size(
    compared: int, flow: bool
) -> None:
    policy, steps = Tilted(0.7), 4 if flow else 5
    for train_batch in (3 * compared, 100):
        objective = dense(compared=compared, draws=2, train_batch=train_batch, num_inference_steps=steps)
        fit = collected(objective, policy, flow)
        sampled, clips, losses = fit.meter.ledger.nfe, [], []
        batches = [fit.loss(batch) for batch in range(fit.batches)]
        for group, draw in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ratio = log_ratios(fit, policy, group, draw)
            clips.append((ratio.abs() > objective.clip).float().mean())
            logits = objective.temperature * ratio.clamp(-objective.clip, objective.clip).mean(1).view(-1, compared)
            losses.append(-list_likelihood(logits).mean())
        found, expected = torch.stack([batch.value for batch in batches]).mean(), torch.stack(losses).mean()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        slopes = [torch.autograd.grad(each, policy.odds)[0] for each in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)
        clipped = torch.stack([batch.logs["log_ratio/clipped"] for batch in batches]).mean()
        assert 0 < clipped < 1
        torch.testing.assert_close(clipped, torch.stack(clips).mean())
        each = 2 * 2 * 6 * 3  # groups, draws, trajectories and steps
        assert (fit.meter.ledger.nfe - sampled, fit.meter.ledger.gradients) == (2 * each * (1 + flow), each)


def test_beyond_the_clip_the_gradient_is_exactly_zero_and_the_logit_has_its_bound() -> None:
    policy = Tilted(2.0)
    fit = collected(dense(clip=1e-7, compared=2, draws=3), policy)
    for batch in range(fit.batches):
        loss = fit.loss(batch)
        (slope,) = torch.autograd.grad(loss.value, policy.odds)
        if loss.logs["log_ratio/clipped"] == 1:
            assert slope == 0
            assert abs(loss.logs["margin"]) <= 2 * 10 * 1e-7
            return
    pytest.fail("no batch was clipped as a whole")


def test_at_the_start_a_comparison_pulls_the_winner_up_and_the_loser_down_alike() -> None:
    policy = Tilted(0.0)
    objective = dense(draws=1, groups=1, temperature=7.0)
    fit = collected(objective, policy)
    loss = fit.loss(0)
    assert loss.value.item() == pytest.approx(torch.tensor(2.0).log().item())
    assert loss.logs["accuracy"] == 0.5
    logits = objective.temperature * log_ratios(fit, policy, 0, 0).mean(1).view(-1, 2)
    expected = torch.autograd.grad(-0.5 * (logits[:, 0] - logits[:, 1]).mean(), policy.odds)[0]
    torch.testing.assert_close(torch.autograd.grad(loss.value, policy.odds)[0], expected.float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_steps_are_drawn_in_proportion_to_powers_of_gamma_and_the_last_one_without_noise_never(gamma: float) -> None:
    fit = collected(dense(gamma=gamma, groups=40, group_size=2, draws=20), Tilted())
    counts = Counter(step for rollout in fit.rollouts for step in rollout.steps)
    total = sum(gamma**step for step in range(4))
    assert set(counts) == set(range(4))
    for step in range(4):
        assert counts[step] / 2400 == pytest.approx(gamma**step / total, abs=0.04)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=6, max_size=6), st.sampled_from([2, 3]), st.integers(0, 99))
def test_each_comparison_is_sorted_within_itself(numbers: list[float], compared: int, seed: int) -> None:
    values = torch.tensor(numbers)
    order = ranked(values, compared, NoiseSource("a cat", seed, (1,)))
    assert torch.equal((order // compared).view(-1, compared)[:, 0], torch.arange(6 // compared))
    assert sorted(order.tolist()) == list(range(6))
    for group in values[order].view(-1, compared):
        assert group.tolist() == sorted(group.tolist(), reverse=True)


def test_ties_are_broken_at_random() -> None:
    firsts = [ranked(torch.ones(2), 2, NoiseSource("a cat", seed, (1,)))[0].item() for seed in range(60)]
    assert 15 < sum(firsts) < 45


def test_the_better_trajectory_comes_first_in_what_is_trained() -> None:
    fit = collected(dense(compared=3, gamma=1.0, draws=10), Tilted())
    for rollout in fit.rollouts:
        last = rollout.tensors["next"][:, -1]  # the last noisy step of all
        problem = rollout.problem
        clean = problem.kernel.mean(4, last, problem.denoise(last, 4))
        values = brightness(problem.decode(clean)).view(-1, 3)
        torch.testing.assert_close(values, rollout.rewards.view(-1, 3).sort(dim=1, descending=True).values)


def test_training_makes_the_preferred_samples_more_frequent() -> None:
    policy = Tilted()
    history = train(dense(group_size=16, clip=1e-2), policy, 12, 0.3, PROMPTS)
    assert history[0]["accuracy"] == 0.5
    assert history[-1]["value"] > history[0]["value"] + 0.5
    assert policy.odds.item() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compared": 1}, "compared is 1: give at least 2"),
        ({"compared": 4}, "group_size is 6, and 4 trajectories are compared: give a multiple"),
        ({"gamma": 0.0}, r"gamma is 0.0: give a number in \(0, 1\], such as 0.9"),
        ({"gamma": 1.1}, "gamma is 1.1"),
        ({"temperature": 0.0}, "temperature is 0.0: give a number above 0"),
        ({"clip": -1.0}, "clip is -1.0: give a number above 0"),
        ({"steps_per_logit": 0}, "steps_per_logit is 0: give at least 1"),
        ({"train_batch": 5}, r"train_batch is 5, and a comparison has 2 x 3 latents .*: give at least 6"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense(**options)


def test_a_process_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="no step draws noise"):
        tuning(dense(eta=0.0), Tilted())
