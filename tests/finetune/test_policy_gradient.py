"""Policy gradients: formulas against the Gaussian's own density, and the gradient against that of sampling itself."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from srsoup_lightning.diffusion.flow import FlowCPS, FlowSDE, flow_kernel
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import DDIM, Transition
from srsoup_lightning.finetune import AllSteps, PolicyGradient, RandomSteps, Steps, Window
from srsoup_lightning.finetune.formulas import clipped_loss, divergence_masked_loss, guarded_ratio, mean_deviation
from tests.finetune.tilted import SHAPE, Tilted, train, tuning, with_kernel

TIMES = (1.0, 0.9, 0.7, 0.4, 0.0)
small = partial(PolicyGradient, num_inference_steps=4, guidance_scale=1.0, groups=2, group_size=4, train_batch=4)
seeds = st.integers(0, 10_000)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seeds, st.floats(0.05, 2.0))
@settings(max_examples=25, deadline=None)
def test_ratios_and_divergences_are_those_of_the_gaussian_of_a_step(seed: int, sigma: float) -> None:
    old, new, z = normal(seed, 3, 2, 4, 4), normal(seed + 1, 3, 2, 4, 4), normal(seed + 2, 3, 2, 4, 4)
    new = old + 0.1 * new
    x, d = old + sigma * z, old[0].numel()
    before, after = (Independent(Normal(mean, sigma), 3) for mean in (old, new))
    log_ratio = Transition(new, sigma).log_prob(x) - Transition(old, sigma).log_prob(x)
    torch.testing.assert_close(log_ratio, (after.log_prob(x) - before.log_prob(x)) / d)
    deviation = mean_deviation(new, old, sigma)
    torch.testing.assert_close(deviation, kl_divergence(before, after) / d)
    exponent = guarded_ratio(log_ratio, deviation, sigma).log()
    torch.testing.assert_close(exponent, (z * (new - old)).flatten(1).mean(1))


@given(st.floats(-5, 5), st.floats(0.5, 1.5), st.floats(0.01, 0.4), st.floats(0, 0.1))
@settings(max_examples=50, deadline=None)
def test_clipped_and_masked_losses_stop_steps_away_and_no_others(
    advantage: float, value: float, clip: float, deviation: float
) -> None:
    ratio = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    given_ = torch.tensor([advantage], dtype=torch.float64)
    loss = clipped_loss(given_, ratio, clip)
    clamped = min(max(value, 1 - clip), 1 + clip)
    assert loss.item() == pytest.approx(max(-advantage * value, -advantage * clamped))
    beyond = (advantage > 0 and value > 1 + clip) or (advantage < 0 and value < 1 - clip)
    (slope,) = torch.autograd.grad(loss.sum(), ratio)
    assert slope.item() == pytest.approx(0 if beyond else -advantage)
    masked = divergence_masked_loss(given_, ratio, torch.tensor([deviation]), 0.05)
    away = (advantage > 0 and value > 1) or (advantage < 0 and value < 1)
    stopped = deviation > 0.05 and away
    assert masked.requires_grad
    (slope,) = torch.autograd.grad(masked.sum(), ratio, allow_unused=True)
    assert slope.item() == pytest.approx(0 if stopped else -advantage)


@pytest.mark.parametrize(
    ("kernel", "one_start"),
    [
        (None, False),
        (None, True),
        (flow_kernel("ancestral", TIMES, 1.0), False),
        (FlowSDE(TIMES, 0.7), False),
        (FlowCPS(TIMES, 0.8), False),
    ],
)
def test_its_gradient_is_that_of_the_expected_reward(kernel: DDIM | None, one_start: bool) -> None:
    policy, size = Tilted(odds=0.5), 8_192
    options = {"guidance_scale": 1.0, "spread": "group", "one_start": one_start}
    objective = small(groups=1, group_size=size, train_batch=size, **options)
    change = (lambda denoiser: denoiser) if kernel is None else (lambda denoiser: with_kernel(denoiser, kernel))
    fit = tuning(objective, policy, change=change)
    fit.collect(["a cat"])
    (rollout,) = fit.rollouts
    each = [fit.loss(batch) for batch in range(fit.batches)]
    assert all(torch.equal(part.logs["ratio/clipped"], torch.tensor(0.0)) for part in each)
    (found,) = torch.autograd.grad(sum(part.value for part in each), policy.odds)
    denoiser, noise = rollout.problem.denoiser, partial(rollout.normal, slice(None), "rollout")
    x = noise("start")  # the same pictures once more, now with the graph of autograd through all of sampling
    x = x[:1].expand_as(x) if one_start else x
    for step in range(denoiser.kernel.steps):
        transition = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
        x = transition.draw(noise("step", step)) if transition.sigma else transition.mean
    reward = denoiser.decode(x).mean((1, 2, 3))
    torch.testing.assert_close(reward.detach(), rollout.rewards[:, 0])
    (truth,) = torch.autograd.grad(reward.mean(), policy.odds)
    score = -found * math.prod(SHAPE) * reward.std(correction=0)
    last = denoiser.kernel.sigma(denoiser.kernel.steps - 1)
    assert last > 0 or denoiser.kernel.steps - fit.batches == 1  # the last step draws no noise, so it has no density
    assert score.item() == pytest.approx(truth.item(), rel=0.25)
    assert truth > 0.005


def test_training_shifts_the_odds_towards_the_reward_and_the_base_model_holds_them_back() -> None:
    odds = []
    for options in (
        {},
        {"kl": 0.3},
        {"trust": "guard", "clip": 0.01},
        {"trust": "dppo", "clip": 1e-3},
        {"steps": Window(2)},
    ):
        policy = Tilted()
        history = train(small(groups=2, group_size=64, train_batch=32, **options), policy, 12, 0.2, ["a cat", "a dog"])
        odds.append(policy.odds.item())
        assert history[-1]["reward/bright"] > history[0]["reward/bright"]
    assert min(odds) > 0.3
    assert odds[1] < odds[0]


def test_losses_of_parts_of_any_size_add_up_to_that_of_the_group() -> None:
    sums = []
    for train_batch in (7, 3, 1):
        policy = Tilted(odds=0.2)
        fit = tuning(small(groups=1, group_size=7, train_batch=train_batch, kl=0.5), policy)
        fit.collect(["a cat"])
        policy.odds.data.add_(0.3)  # off the policy that has sampled
        (sum(fit.loss(batch).value for batch in fit.order()) / fit.batches).backward()
        sums.append(policy.odds.grad)
    torch.testing.assert_close(sums[1], sums[0])
    torch.testing.assert_close(sums[2], sums[0])


def test_windows_draw_noise_and_train_where_they_lie_and_slide_on() -> None:
    kernel, noise = DDIM((0.001, 0.1, 0.3, 0.6, 0.8, 0.9, 1.0), 1.0), NoiseSource("a cat", 0, SHAPE)
    sliding = Window(length=2, last=5, slide_every=3)
    places = [sliding.trained(kernel, noise, round_) for round_ in range(13)]
    assert places[:4] == [(0, 1)] * 3 + [(1, 2)]
    assert places[11:] == [(3, 4), (0, 1)]
    drawn = {Window(2).trained(kernel, replace(noise, seed=seed), 0) for seed in range(20)}
    assert drawn == {(0, 1), (1, 2)}  # in the first half of the steps
    share = RandomSteps(0.5)
    assert {len(share.trained(kernel, replace(noise, seed=seed), 0)) for seed in range(5)} == {2}  # of 5 with noise
    assert AllSteps().trained(kernel, noise, 0) == (0, 1, 2, 3, 4)
    policy = Tilted()
    fit = tuning(small(steps=Window(1, first=1, last=2)), policy)
    fit.collect(["a cat"])
    (rollout, _), kernel = fit.rollouts, fit.rollouts[0].problem.kernel
    state, problem = rollout.normal(slice(None), "rollout", "start"), rollout.problem
    state = kernel.deterministic().transition(0, state, problem.denoise(state, 0)).mean
    torch.testing.assert_close(rollout.tensors["state"][:, 0], state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_size": 1}, "group_size is 1: advantages compare the samples of a prompt, give at least 2"),
        ({"clip": 0.0}, "clip is 0.0: give a number above 0"),
        ({"kl": -1.0}, "kl is -1.0: give at least 0"),
        ({"trust": "ppo"}, "trust is 'ppo'"),
        ({"advantage_clip": 0.0}, "advantage_clip is 0.0"),
        ({"eta": 0.0}, "no step draws noise, so sigma is 0 at each trained step: give eta above 0"),
        ({"kl": 1.0, "kl_space": "v"}, "kl_space is v, and the model is a diffusion, not a flow: give kl_space: x"),
        ({"steps": Window(3, last=4)}, "step 3 is in a window and draws no noise: sigma is 0 there"),
        ({"steps": Window(5)}, "a window of 5 steps does not fit between step 0 and step 5 of 4"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sampled(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuning(small(**options), Tilted())


@pytest.mark.parametrize(("kind", "option"), [(Window, "length"), (Window, "slide_every"), (RandomSteps, "share")])
def test_bad_choices_of_steps_are_refused(kind: type[Steps], option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}.* is 0"):
        kind(**{option: 0})
