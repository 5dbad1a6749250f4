"""Particles against the distributions that they must approach, and decoding against a loop by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import DDIM
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import BFS, DAS, SMC, SVDD, VASR, BestOfN, CoDe, Evaluator, FKSteering, Moment, Particles
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.search.potentials import Potential
from srsoup_lightning.search.scalarise import Units, Value
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, Tally, bind, lattice, linears, oracle, run

PLAIN, TILT = (3, 1, 1), torch.tensor([0.8, -0.4, 0.4])
ANY_NUMBER = 100_000


def population(sampler: Particles, mixture: GaussianMixture, seed: int) -> tuple[Tensor, Tensor]:
    """Final particles (K, 3) for the reward ``TILT @ x``, and their weights (K,)."""

    def reward(images: Tensor) -> Tensor:
        return (8 * (images - 0.5)).flatten(1) @ TILT

    problem = Problem(mixture.bind(sampler.num_inference_steps, 1.0), oracle({"a": reward}), ANY_NUMBER)
    value = Value(torch.ones(1, 1), units=Units(torch.zeros(1), torch.ones(1)))
    x, _, lineages = sampler.population(Evaluator(problem, value), NoiseSource("a cat", seed, PLAIN), lambda _: None)
    return x[0].flatten(1).double(), lineages.log_weights[0].softmax(0)


def moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = weights @ x
    return mean, (weights * (x - mean).T) @ (x - mean)


def gaussian_output(kernel: DDIM, centre: Tensor, spread: float) -> tuple[Tensor, float]:
    """Mean and variance of a sampler's pictures for Gaussian data: every step is affine, and its noise is known."""
    mean, variance = torch.zeros_like(centre), 1.0
    for step, (here, there) in enumerate(pairwise(kernel.alphas)):
        gain = here**0.5 * spread**2 / (here * spread**2 + 1 - here)  # of x0 over x
        offset = (1 - gain * here**0.5) * centre
        kept = ((1 - there - kernel.sigma(step) ** 2) / (1 - here)) ** 0.5
        slope, level = there**0.5 - kept * here**0.5, kept
        mean = (slope * gain + level) * mean + slope * offset
        variance = (slope * gain + level) ** 2 * variance + kernel.sigma(step) ** 2
    return mean, variance


WAYS = {
    "fk": FKSteering(),
    "smc": SMC(),
    "bfs": BFS(),
    "vasr": VASR(),
    "sum": Particles(potential="sum", scorings=3, ess_threshold=0.5),
    "current": Particles(potential="current", scorings=3, resampler="systematic"),
    "das": DAS(),
    "adaptive das": DAS(tempering="adaptive"),
    "polynomial das": DAS(tempering="polynomial", potential="sum", scorings=4),
    "rounded": Particles(potential="difference", resampler="rounding", ess_threshold=0.5),
}


@pytest.mark.parametrize("way", WAYS)
def test_weighted_particles_approach_the_tilted_gaussian(way: str) -> None:
    """``N(m, v)`` times ``exp(lambda a x)`` is ``N(m + lambda v a, v)``, up to its integral."""
    steps, strength, particles, centre = 10, 1.5, 2_000, torch.tensor([0.5, 0.0, -0.5])
    mixture = GaussianMixture(centre.view(1, *PLAIN), 0.6)
    options = {"num_inference_steps": steps, "particles": particles, "inverse_temperature": strength}
    sampler = type(WAYS[way])(**{**vars(WAYS[way]), **options})
    mean, variance = gaussian_output(mixture.bind(steps, 1.0).kernel, centre.double(), 0.6)
    found, spread = (
        torch.stack(each).mean(0)
        for each in zip(*(moments(*population(sampler, mixture, seed)) for seed in range(3)), strict=True)
    )
    torch.testing.assert_close(found, mean + strength * variance * TILT, rtol=0, atol=0.05)
    torch.testing.assert_close(spread, variance * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.06)


@pytest.mark.parametrize("make", [SMC, DAS])
def test_the_tilted_mixture_is_reproduced_with_its_shares(make: type[Particles]) -> None:
    """Component k is moved by ``lambda s^2 a`` and weighed by ``exp(lambda a c_k)``."""
    centres, spread, strength = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0]]), 0.5, 1.0
    sampler = make(num_inference_steps=80, particles=2_000, inverse_temperature=strength)
    found = moments(*population(sampler, GaussianMixture(centres.view(2, *PLAIN), spread), 0))
    shares = (strength * centres @ TILT).softmax(0).double()
    components = (centres + strength * spread**2 * TILT).double()
    mean, between = moments(components, shares)
    torch.testing.assert_close(found[0], mean, rtol=0, atol=0.08)
    torch.testing.assert_close(found[1], between + spread**2 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.08)


def test_the_error_falls_with_the_root_of_the_number_of_particles() -> None:
    mixture, centre = GaussianMixture(torch.zeros(1, *PLAIN), 0.6), torch.zeros(3, dtype=torch.float64)
    mean, variance = gaussian_output(mixture.bind(8, 1.0).kernel, centre, 0.6)
    errors = []
    for particles in (60, 960):
        sampler = SMC(num_inference_steps=8, particles=particles, inverse_temperature=1.0)
        found = torch.stack([moments(*population(sampler, mixture, seed))[0] for seed in range(12)])
        errors.append(float((found - mean - variance * TILT).square().mean().sqrt()))
    assert 2.5 < errors[0] / errors[1] < 6.5  # 4 is expected


def test_gradients_let_few_particles_do_and_an_adaptive_temperature_meets_its_size() -> None:
    """Sums over weighted particles err less, and the first scoring has the effective sample size that was asked for."""
    mixture, errors = GaussianMixture(torch.zeros(1, *PLAIN), 0.6), []
    mean, variance = gaussian_output(mixture.bind(30, 1.0).kernel, torch.zeros(3, dtype=torch.float64), 0.6)
    for make in (SMC, DAS):
        sampler = make(num_inference_steps=30, particles=8, inverse_temperature=6.0)
        found = torch.stack([moments(*population(sampler, mixture, seed))[0] for seed in range(12)])
        errors.append(float((found - mean - 6.0 * variance * TILT).square().mean().sqrt()))
    assert errors[1] < 0.8 * errors[0]
    seen: list[Moment] = []
    sampler = SMC(num_inference_steps=10, particles=16, inverse_temperature=50.0, tempering="adaptive")
    run(sampler, lattice(1, 1), on_step=seen.append)
    sizes = [float(moment.observation.values["effective sample size"]) for moment in seen if moment.observation]
    assert sizes[0] == pytest.approx(0.5 * 16, abs=1e-3)
    with pytest.raises(ValueError, match="give the potential difference and an ess_threshold below 1"):
        Particles(tempering="adaptive")


def test_the_potentials_telescope_to_the_reward_of_the_end() -> None:
    """Along a lineage without resampling, any potential leaves ``lambda r(x_0)``, and "infinite" the best alone."""
    for options in (
        {"potential": kind, "tempering": tempering}
        for kind in ("current", "difference", "max", "sum")
        for tempering in ("constant", "increasing")
    ):
        sampler = Particles(
            num_inference_steps=6, particles=4, scorings=4, inverse_temperature=0.3, ess_threshold=1e-9, **options
        )
        problem = Problem(bind(sampler), oracle(linears(1)), 64)
        value = Value(torch.ones(1, 1), units=Units(torch.zeros(1), torch.ones(1)))
        _, values, lineages = sampler.population(Evaluator(problem, value), NoiseSource("a", 0, SHAPE), lambda _: None)
        torch.testing.assert_close(lineages.log_weights, 0.3 * values.double())
    best = run(Particles(num_inference_steps=6, particles=4, tempering="infinite"), lattice(1, 1))
    assert (
        best.rewards
        >= run(Particles(num_inference_steps=6, particles=4, inverse_temperature=0.0), lattice(1, 1)).rewards
    )


def test_tempering_is_the_schedule_of_das() -> None:
    """``(1 + gamma)^i - 1`` with gamma .008 reaches 1 after 87 of 100 steps."""
    increasing = Potential("max", "increasing", 2.0)
    for done in (0, 20, 50, 86):
        assert increasing.strength(done / 100) == pytest.approx(2 * (1.008**done - 1), abs=0.01)
    assert increasing.strength(0.87) == increasing.strength(1.0) == 2.0


def test_lineages_and_sample_sizes_are_reported() -> None:
    moments: list[Moment] = []
    run(BFS(num_inference_steps=6, particles=5, scorings=3), lattice(2, 2), on_step=moments.append)
    measured = [moment.observation for moment in moments if moment.observation]
    assert len(measured) == 3
    for measures in measured:
        assert bool(
            (measures.values["effective sample size"] >= 1).all()
            and (measures.values["effective sample size"] <= 5 + 1e-9).all()
        )
        assert measures.units.unit.isfinite().all()
    survivors = torch.stack([measures.values["surviving lineages"] for measures in measured])
    assert bool((survivors.diff(dim=0) <= 0).all())
    roots = torch.arange(5).expand(3, 5)
    for measures in measured[:-1]:
        roots = roots.gather(1, measures.ancestors)
    assert [len(row.unique()) for row in roots] == survivors[-1].tolist()


# Decoding.


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("final_alpha", [1.0, 0.9])
def test_the_best_child_is_followed(block: int, final_alpha: float) -> None:
    steps, n = 6, 3
    sampler = SVDD(num_inference_steps=steps, children=n, block=block)
    denoiser, reward, noise = bind(sampler, final_alpha), linears(1)["a"], NoiseSource("a lobster", 0, SHAPE)
    x, asked = noise.start().expand(n, *SHAPE), 0
    for step in range(steps):
        mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
        x = mean + sigma * noise.candidates(n, step)
        ends = step + 1 == steps or (step + 1) % block == 0
        if ends and (sigma > 0 or block > 1):
            previews = x if step + 1 == steps else denoiser.denoise(x, step + 1).x0
            x, asked = x[reward(denoiser.decode(previews)).argmax()].expand(n, *SHAPE), asked + n
    soup = run(sampler, lattice(1, 1), denoiser=denoiser)
    torch.testing.assert_close(soup.images[0], denoiser.decode(x[:1])[0], rtol=0, atol=1e-5)
    assert (soup.ledger.queries["a"], soup.ledger.nfe) == (asked, 1 + n * (steps - 1))


def test_preferences_share_what_they_have_in_common() -> None:
    """The rewards are equal: whatever the weights, all choose alike, and pay once."""
    same = dict.fromkeys(("a", "b"), linears(1)["a"])
    for sampler in (SVDD(num_inference_steps=5, children=4), BFS(num_inference_steps=5, particles=4, scorings=3)):
        alone, all_three = (
            run(sampler, Preferences(["a", "b"], points), same)
            for points in ([[0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5], [1, 0]])
        )
        assert torch.equal(all_three.images, alone.images.expand_as(all_three.images))
        assert (all_three.ledger.queries, all_three.ledger.nfe) == (alone.ledger.queries, alone.ledger.nfe)


def test_an_unguided_preview_costs_half_and_its_child_is_predicted_again() -> None:
    """Here guidance changes nothing, so neither does the kind of preview: only the bill shows it."""
    n, steps, tally = 4, 6, Tally()
    guided, unguided = (SVDD(num_inference_steps=steps, children=n, preview=kind) for kind in ("guided", "unguided"))
    denoiser = tally.denoiser(bind(unguided), evaluations=2)
    with_, without = (run(sampler, lattice(1, 1), denoiser=denoiser) for sampler in (guided, unguided))
    torch.testing.assert_close(without.images, with_.images)
    assert (with_.ledger.nfe, without.ledger.nfe) == (2 * (1 + n * (steps - 1)), 2 * steps + n * (steps - 1))
    assert tally.counts["denoise_unguided"] == n * (steps - 1)


def test_a_strong_penalty_keeps_the_unsteered_picture_s_side() -> None:
    distances = []
    unsteered = run(BestOfN(num_inference_steps=6, pool=1), lattice(1, 1)).images
    for penalty in (0.0, 1e3):
        soup = run(SVDD(num_inference_steps=6, children=8, penalty=penalty), lattice(1, 1))
        distances.append(float((soup.images - unsteered).square().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_given_units_decide_the_trade_off_and_wrong_ones_are_named() -> None:
    points = Preferences(["a", "b"], [[0.5, 0.5]])
    for units, reward in (({"a": [0, 1e-6], "b": [0, 1]}, "a"), ({"a": [0, 1], "b": [0, 1e-6]}, "b")):
        mixed = run(CoDe(num_inference_steps=6, children=4, block=1, units=units), points)
        alone = run(
            SVDD(num_inference_steps=6, children=4), Preferences([reward], [[1.0]]), {reward: linears(2)[reward]}
        )
        torch.testing.assert_close(mixed.images, alone.images)
    with pytest.raises(ValueError, match=r"units of 'a' are \[0, 0\]: give \[mean, standard deviation above 0\]"):
        SVDD(units={"a": [0, 0]})
    with pytest.raises(ValueError, match=r"units leave out \['b'\]: give \[mean, standard deviation\]"):
        run(SVDD(units={"a": [0, 1]}), points)
    with pytest.raises(ValueError, match=r"units name \['c'\]: the rewards are \['a', 'b'\]"):
        run(SVDD(units={"a": [0, 1], "b": [0, 1], "c": [0, 1]}), points)


def test_a_plan_knows_the_cost() -> None:
    ledger = count(SVDD(num_inference_steps=10, children=5), lattice(1, 1))
    assert (ledger.queries["a"], ledger.nfe) == (5 * 10, 2 * (1 + 5 * 9))  # the stand-in searches the last step too
    assert math.isclose(count(FKSteering(num_inference_steps=10), lattice(1, 1)).queries["a"], 4 * 5)
