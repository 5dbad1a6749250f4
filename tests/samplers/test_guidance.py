"""Guidance against closed forms: a linear reward tilts a Gaussian to a Gaussian, and its gradient is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import DPS, DSG, MPGD, BaseModel, Evaluator, Guidance, UniversalGuidance, Value
from srsoup_lightning.samplers.gradients import Guide
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, bind, lattice, linears, normal, oracle, run

STEPS, SPREAD, CENTRE = 6, 0.5, 0.3 * normal(1, *SHAPE)
ONE = Preferences(["a"], [[1.0]])
TILT = normal(*SHAPE, seed=100) / 8  # gradient of linear reward "a" with respect to a clean latent
UNITS = {"a": [0.0, 1.0]}


def gaussian(sampler: Guidance | BaseModel, centre: Tensor = CENTRE):
    return GaussianMixture(centre, SPREAD).bind(sampler.num_inference_steps, sampler.eta)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_forward_guidance_samples_the_posterior_of_a_gaussian(eta: float) -> None:
    """N(c, s^2) times exp(k a x) is N(c + k s^2 a, s^2), whose unsteered pictures these are, to the last step."""
    strength = 2.0
    options = {"num_inference_steps": 20, "eta": eta}
    guided = UniversalGuidance(**options, rate=strength, units=UNITS)
    posterior = gaussian(base := BaseModel(**options), CENTRE + strength * SPREAD**2 * TILT)
    expected = run(base, ONE, denoiser=posterior)
    found = run(guided, ONE, denoiser=gaussian(guided))
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=2e-4)
    assert (found.images - run(base, ONE, denoiser=gaussian(base)).images).abs().max() > 0.02


@pytest.mark.parametrize(
    ("sampler", "through_network"),
    [
        (DPS(num_inference_steps=STEPS, rate=0.3, start=0.3, scale="constant"), True),
        (DPS(num_inference_steps=STEPS, rate=0.3, recurrence=2, eta=0.0), True),
        (DPS(num_inference_steps=STEPS, rate=0.3, units=UNITS, interval=2), True),
        (MPGD(num_inference_steps=STEPS, rate=0.3), False),
        (UniversalGuidance(num_inference_steps=STEPS, rate=0.0, backward_steps=2, backward_rate=0.1), False),
    ],
)
def test_guidance_is_a_plain_loop(sampler: Guidance, through_network: bool) -> None:
    denoiser, noise, guided = gaussian(sampler), NoiseSource("a lobster", 0, SHAPE), 0
    kernel, x = denoiser.kernel, noise.start().unsqueeze(0)
    unit = TILT / TILT.square().mean().sqrt()
    for step in range(STEPS):
        guides = step >= round(sampler.start * STEPS) and step % sampler.interval == 0
        alpha, (signal, spread) = kernel.alphas[step], kernel.shares(step)
        slope = alpha**0.5 * SPREAD**2 / (alpha * SPREAD**2 + 1 - alpha)
        for again in range(sampler.recurrence if guides else 1):
            z = noise.step(step)
            if again:
                back, z = noise.normal(2, "recurrence", step, again)
                x = kernel.renoise(step + 1, x, step, back)
            x0, epsilon = prediction = denoiser.denoise(x, step)
            length = sampler.rate * (1 if vars(sampler).get("scale") == "constant" else kernel.shares(step + 1).noise)
            if isinstance(sampler, MPGD):
                prediction = prediction._replace(x0=x0 + length * unit)
            elif isinstance(sampler, UniversalGuidance):
                prediction = type(prediction)(x0 + 2 * 0.1 * unit, epsilon - signal / spread * 2 * 0.1 * unit)
            x = kernel.transition(step, x, prediction).draw(z)
            if isinstance(sampler, DPS) and guides:
                x = x + length * (unit if sampler.units is None else slope * TILT)
            guided += guides
    soup = run(sampler, ONE, denoiser=denoiser)
    torch.testing.assert_close(soup.images, denoiser.decode(x), rtol=0, atol=1e-5)
    queries = guided * (sampler.backward_steps if isinstance(sampler, UniversalGuidance) else 1)
    assert (soup.ledger.queries["a"], soup.ledger.gradients) == (queries, guided if through_network else 0)
    assert soup.ledger.nfe == STEPS + guided - len(range(STEPS)[round(sampler.start * STEPS) :: sampler.interval])


def test_freedom_s_scale_is_that_of_guidance() -> None:
    """The step adds a direction whose root mean square is that of guided minus unguided noise."""
    sampler = DPS(num_inference_steps=1, rate=0.5, scale="guidance")
    shift = 0.1 * normal(1, *SHAPE, seed=7)
    plain = gaussian(sampler)
    denoiser = replace(
        plain,
        denoise_unguided=lambda x, level: (found := plain.denoise(x, level))._replace(noise=found.noise + shift),
    )
    soup, base = (run(each, ONE, denoiser=denoiser) for each in (sampler, BaseModel(num_inference_steps=1)))
    change = 8 * (soup.images - base.images)
    torch.testing.assert_close(change[0], 0.5 * shift.square().mean().sqrt() * TILT / TILT.square().mean().sqrt())
    with pytest.raises(ValueError, match=r"guidance_scale is 1\.0: there is no guidance to take the scale of"):
        DPS(scale="guidance", guidance_scale=1.0)


@pytest.mark.parametrize("make", [DSG, DPS, MPGD, UniversalGuidance])
def test_preferences_at_one_point_share_gradients_and_get_what_they_get_alone(make: type[Guidance]) -> None:
    sampler, preferences = make(num_inference_steps=STEPS), lattice(2, 4)
    together = run(sampler, preferences)
    alone = [run(sampler, Preferences(["a", "b"], [weights])) for weights in preferences.weights.tolist()]
    torch.testing.assert_close(together.images, torch.cat([soup.images for soup in alone]), rtol=0, atol=1e-5)
    assert together.ledger.total_queries == sum(soup.ledger.total_queries for soup in alone) - 6  # 8 asked at the start
    assert together.ledger.nfe == sum(soup.ledger.nfe for soup in alone) - 4
    assert len(together.images.unique(dim=0)) == 5


@pytest.mark.parametrize("conflicts", ["ignore", "mgda", "pcgrad"])
def test_checkpointing_changes_no_direction(conflicts: str) -> None:
    kept, again = (
        run(DPS(num_inference_steps=STEPS, conflicts=conflicts, checkpointing=way), lattice(2, 3))
        for way in (False, True)
    )
    torch.testing.assert_close(again.images, kept.images, rtol=0, atol=1e-6)
    assert again.ledger.gradients == kept.ledger.gradients


def test_a_gradient_that_is_missing_or_not_finite_is_named() -> None:
    sampler = DPS(num_inference_steps=STEPS)
    for score, message in (
        (
            lambda images: images.detach().mean((1, 2, 3)),
            "reward 'a' says is_differentiable, .* at denoising step 0",
        ),
        (lambda images: (images - images).square().sum((1, 2, 3)).sqrt(), "gradient of reward 'a' at denoising step 0"),
    ):
        with pytest.raises(RewardError, match=message):
            run(sampler, ONE, {"a": score})


def test_units_weigh_gradients_against_each_other() -> None:
    """A unit a thousand times larger leaves a reward almost no influence; without units both count alike."""
    sampler = DPS(num_inference_steps=STEPS)
    problem, x = Problem(bind(sampler), oracle(linears(2)), 64), normal(1, *SHAPE)
    weights = torch.tensor([[0.5, 0.5]])

    def direction(*units: float) -> Tensor:
        value = Value(weights)
        value = value if not units else value.in_units_of(torch.tensor([[0.0, 0.0], [2 * unit for unit in units]]))
        return Guide(Evaluator(problem, value), "a test").at(x, 2)[0]

    alone = Guide(Evaluator(problem, Value(torch.tensor([[1.0, 0.0]]))), "a test").at(x, 2)[0]
    angle = torch.nn.functional.cosine_similarity
    assert angle(direction(1.0, 1e3).flatten(), alone.flatten(), dim=0) > 0.999
    assert angle(direction(1.0, 1.0).flatten(), alone.flatten(), dim=0) < 0.9
    assert angle(direction().flatten(), alone.flatten(), dim=0) < 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.0}, r"start is 1.0: give a share of the steps in \[0, 1\)"),
        ({"conflicts": "both"}, "conflicts"),
        ({"scale": "big"}, "scale"),
        ({"scalarisation": "ranks"}, "scalarisation is ranks: DPS adds gradients up"),
        ({"penalty": 1.0}, "penalty is 1.0: DPS penalises no distance, leave it out"),
        ({"recurrence": 0}, "recurrence is 0: give at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPS(**options)
    with pytest.raises(ValueError, match="nothing guides"):
        UniversalGuidance(rate=0.0)
