"""Matching: the published losses of DiffusionNFT and AWM, computed in another way, and a mixture that is tilted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.flow import flow_kernel, flow_prediction
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Prediction, prediction_of
from srsoup_lightning.finetune import AWM, NFT, Decay, Matching, Training
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.formulas import velocity_distance
from srsoup_lightning.finetune.matching import evenly_spaced
from srsoup_lightning.finetune.matching_losses import Match
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.problem import Problem
from tests.mixture import GaussianMixture
from tests.samplers.toys import normal, oracle

SHAPE = (3, 2, 2)
LIMIT, TIME = 5.0, 0.7
ADVANTAGES = torch.tensor([-5.0, -0.5, 0.0, 2.0, 5.0], dtype=torch.float64)


def latents(seed: int) -> Tensor:
    return normal(len(ADVANTAGES), *SHAPE, seed=seed).double()


def test_nft_on_a_flow_is_the_velocity_form_of_the_paper() -> None:
    clean, noise, old, tuned, beta = latents(0), latents(1), latents(2), latents(3).requires_grad_(), 0.3
    x = (1 - TIME) * clean + TIME * noise
    expected = torch.zeros(())
    for sign, good in ((1, 0.5 + ADVANTAGES / 10), (-1, 0.5 - ADVANTAGES / 10)):
        velocity = old + sign * beta * (tuned - old)
        error = x - TIME * velocity - clean
        weight = error.detach().abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
        expected = expected + LIMIT * good * (error**2 / weight).mean((1, 2, 3)) / beta
    predictions = [flow_prediction(velocity, x, TIME).x0 for velocity in (tuned, old)]
    losses, logs = NFT(beta).losses(ADVANTAGES, LIMIT, Match(clean, predictions[0], TIME, predictions[1]))
    torch.testing.assert_close(losses, expected)
    slopes = [torch.autograd.grad(each.sum(), tuned, retain_graph=True)[0] for each in (losses, expected)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(logs["distance_from_old"], (tuned - old).square().mean((1, 2, 3)))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_nft_at_the_old_weights_pulls_to_the_sample_by_how_good_it_is(beta: float) -> None:
    clean, old = latents(0), latents(1)
    tuned = old.clone().requires_grad_()
    losses, _ = NFT(beta).losses(ADVANTAGES, LIMIT, Match(clean, tuned, TIME, old))
    (slope,) = torch.autograd.grad(losses.sum(), tuned)
    unit = 2 * (old - clean) / (old - clean).abs().mean((1, 2, 3), keepdim=True) / clean[0].numel()
    torch.testing.assert_close(slope, ADVANTAGES.view(-1, 1, 1, 1) * unit)  # 5 (2 p - 1) = A, whatever beta is


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "flow"])
def test_distances_of_clean_latents_are_those_of_velocities(prediction_type: str) -> None:
    x, outputs, alpha = latents(0), (latents(1), latents(2)), 0.4
    if prediction_type == "flow":
        share, predictions = TIME, [flow_prediction(output, x, TIME) for output in outputs]
        velocities = [found.noise - found.x0 for found in predictions]
    else:
        share = (1 - alpha) ** 0.5
        predictions = [prediction_of(output, x, alpha, prediction_type) for output in outputs]
        velocities = [alpha**0.5 * found.noise - share * found.x0 for found in predictions]
    expected = (velocities[0] - velocities[1]).square().mean((1, 2, 3))
    torch.testing.assert_close(velocity_distance(predictions[0].x0, predictions[1].x0, share), expected)


LIKELIHOODS = {
    "identity": lambda error: -error,
    "t": lambda error: -TIME * error,
    "t2": lambda error: -(TIME**2) * error,
    "huber": lambda error: -TIME * ((error + 1e-10).sqrt() - 1e-5),
    "ghuber": lambda error: -TIME * ((error + 1e-10) ** 0.2 - 1e-10**0.2) / 0.2,
}


@pytest.mark.parametrize("scale", LIKELIHOODS)
def test_awm_begins_with_a_ratio_of_1_and_the_gradient_of_a_weighted_likelihood(scale: str) -> None:
    clean, noise, old, velocity = latents(0), latents(1), latents(2), latents(3).requires_grad_()
    x0 = flow_prediction(velocity, (1 - TIME) * clean + TIME * noise, TIME).x0
    method = AWM(scale=scale, power=0.2, clip=0.5, old_kl=0.25)
    likelihood = LIKELIHOODS[scale]((velocity - (noise - clean)).square().mean((1, 2, 3)))
    found = method.log_prob(clean, x0, TIME)
    torch.testing.assert_close(found, likelihood)
    match = Match(clean, x0, TIME, old, found.detach())
    losses, logs = method.losses(ADVANTAGES, LIMIT, match)
    assert torch.equal(logs["ratio/mean"], torch.ones(5).double())
    kl = 0.25 * velocity_distance(x0, old, TIME)
    slopes = [
        torch.autograd.grad(each.sum(), velocity, retain_graph=True)[0]
        for each in (losses, kl - ADVANTAGES / LIMIT * likelihood)
    ]
    torch.testing.assert_close(*slopes)
    later, logs = replace(method, old_kl=0).losses(ADVANTAGES, LIMIT, match._replace(log_prob=found.detach() - 1))
    torch.testing.assert_close(later, torch.maximum(-ADVANTAGES / 5 * torch.e, -ADVANTAGES / 5 * 1.5))
    assert logs["ratio/clipped"].all()


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (Decay(rate=0), {1: 0, 1000: 0}),  # DiffusionNFT's type 0
        (Decay(), {1: 0.001, 499: 0.499, 501: 0.5}),  # 1
        (Decay(rate=0.0075, limit=0.999, flat=75), {1: 0, 75: 0, 76: 0.0075, 1000: 0.999}),  # 2
        (Decay(limit=0.3), {1: 0.001, 301: 0.3}),  # AWM
    ],
)
def test_decays_are_those_of_the_authors(decay: Decay, expected: dict[int, float]) -> None:
    assert {rounds: decay.after(rounds) for rounds in expected} == pytest.approx(expected)


def test_levels_differ_and_each_is_as_likely_as_any_other() -> None:
    drawn = [evenly_spaced(range(2, 9), 3, NoiseSource("", seed, ())) for seed in range(700)]
    assert all(len({*levels}) == 3 and 2 <= levels[0] < levels[-1] <= 8 for levels in drawn)
    counts = torch.tensor(drawn).flatten().bincount()[2:]
    assert (counts - 300).abs().max() < 60  # 4 standard deviations
    assert evenly_spaced(range(4), 4, NoiseSource("", 0, ())) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NFT(0), "beta of NFT is 0: give a number above 0"),
        (lambda: AWM(scale="t3"), "scale"),
        (lambda: AWM(power=0), "power of AWM is 0: give"),
        (lambda: AWM(clip=-1), "clip of AWM is -1: give"),
        (lambda: AWM(old_kl=-1), "old_kl of AWM is -1: give at least 0"),
        (lambda: Decay(rate=-1), "rate of the decay is -1: give"),
        (lambda: Decay(flat=-1), "flat of the decay is -1: give"),
        (lambda: Decay(limit=1), "limit of the decay is 1: give a share"),
        (lambda: Matching(kl=-1), "kl is -1: give at least 0"),
        (lambda: Matching(share=0), "share is 0: give"),
        (lambda: Matching(span=(0.5, 0.5)), r"span is \(0.5, 0.5\): give"),
        (lambda: Matching(kl=0, method=AWM(old_kl=0)), "without bound: give kl, old_kl or a clip below 1"),
        (lambda: tuning(Tilt(), Matching(span=(0.02, 0.025))), "has none of 50 steps: give a wider one"),
    ],
)
def test_bad_options_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


class Tilt(Policy):
    """Two Gaussians on a flow or a diffusion, whose log-odds are the only trained weight."""

    def __init__(self, flow: bool = False, sign: int = 1) -> None:
        self.odds = torch.zeros(1, requires_grad=True)
        self.mixture = GaussianMixture(torch.stack([torch.ones(SHAPE), -torch.ones(SHAPE)]), 0.3)
        self.flow, self.sign = flow, sign
        self.guided = 0

    def problem(self, objective: Matching, meter: Meter) -> Problem:
        steps = objective.num_inference_steps
        bound = self.mixture.bind(steps, objective.eta)
        times = tuple(1 - level / steps for level in range(steps + 1))
        kernel = flow_kernel("ancestral", times, objective.eta) if self.flow else bound.kernel

        def unguided(x: Tensor, level: int) -> Prediction:
            self.mixture.weights = torch.cat([self.odds, -self.odds]).softmax(0)
            signal, share = kernel.shares(level)
            length = (signal**2 + share**2) ** 0.5  # 1 for a diffusion
            x0 = self.mixture.posterior_mean(x / length, (signal / length) ** 2)
            return Prediction(x0, (x - signal * x0) / share)

        def guided(x: Tensor, level: int) -> Prediction:
            self.guided += 1
            return unguided(x, level)

        denoiser = replace(bound, kernel=kernel, denoise=guided, denoise_unguided=unguided)
        return Problem(denoiser, oracle({"a": lambda images: self.sign * images.mean((1, 2, 3))}), 64, "", meter)

    @contextmanager
    def acting(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        own = self.odds.data
        self.odds.data = weights["odds"]
        yield
        self.odds.data = own

    def reference(self) -> AbstractContextManager[None]:
        return self.acting({"odds": torch.zeros(1)})

    def weights(self) -> dict[str, Tensor]:
        return {"odds": self.odds.detach().clone()}


def tuning(policy: Tilt, objective: Matching) -> Finetuning:
    return Finetuning(
        Training(objective=objective),
        policy,
        lambda prompt, meter: policy.problem(objective, meter),
        torch.ones(1),
    )


def tilted(policy: Tilt, objective: Matching, rounds: int) -> Finetuning:
    finetuning = tuning(policy, objective)
    optimizer = torch.optim.Adam([policy.odds], lr=0.2)
    for _ in range(rounds):
        finetuning.collect(["a lobster"])
        optimizer.zero_grad()
        for batch in finetuning.order():
            (finetuning.loss(batch).value / finetuning.batches).backward()
        optimizer.step()
        finetuning.end_round()
    return finetuning


SMALL = {"num_inference_steps": 5, "groups": 1, "group_size": 12, "train_batch": 12, "kl": 0.01}


@pytest.mark.parametrize(
    ("method", "flow"),
    [(NFT(), False), (NFT(0.1), True), (AWM(), True), (AWM(scale="t", off_policy=True, clip=0.2), False)],
)
def test_training_moves_the_share_of_the_rewarded_component(method: NFT | AWM, flow: bool) -> None:
    objective = Matching(**SMALL, method=method, decay=Decay(rate=1, limit=0.5), share=0.6)
    up, down = Tilt(flow), Tilt(flow, sign=-1)
    finetuning = tilted(up, objective, 8)
    tilted(down, objective, 8)
    assert up.odds > 0.5
    assert down.odds < -0.5
    assert 0 < finetuning.memory["old"]["odds"] < up.odds  # an average that lags behind
    assert up.guided == 8 * 5  # the samples, and nothing that is trained


@pytest.mark.parametrize("method", [NFT(), AWM()])
def test_neither_parts_of_a_group_nor_a_guided_loss_change_the_gradient_of_a_model_without_guidance(
    method: NFT | AWM,
) -> None:
    moved = []
    for options in ({}, {"train_batch": 5}, {"train_guidance": True}):
        policy = Tilt()
        tilted(policy, Matching(**SMALL | options, method=method), 1)
        moved.append(policy.odds.grad)
    assert moved[0].abs() > 1e-4
    torch.testing.assert_close(moved[1:], [moved[0]] * 2)


def test_the_weights_that_the_loss_says_draw_the_samples() -> None:
    for method, by_old in ((NFT(), True), (AWM(), False), (AWM(off_policy=True), True)):
        policy = Tilt()
        finetuning = tuning(policy, Matching(**SMALL, method=method))
        finetuning.memory["old"] = {"odds": torch.full((1,), 9.0)}  # all samples are of the first component
        finetuning.collect(["a lobster"])
        shares = (finetuning.rollouts[0].tensors["clean"].mean((1, 2, 3, 4)) > 0).float().mean()
        assert (shares == 1) == by_old
        assert policy.odds == 0
