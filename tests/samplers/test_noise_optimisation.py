"""Optimised noise against closed forms: of one Gaussian without fresh noise, a picture is affine in its start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import DNO, MIRA, BaseModel, Evaluator, NoiseOptimisation, ReNO, Value
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.samplers.unrolled import Unrolled, noises_of
from srsoup_lightning.samplers.walk import unsteered_previews
from srsoup_lightning.search.noise_likelihood import improbability, norm_penalty
from srsoup_lightning.search.scalarise import Units
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, bind, lattice, linears, normal, oracle, run

STEPS, D = 3, math.prod(SHAPE)
ONE, UNITS = Preferences(["a"], [[1.0]]), {"a": [0.0, 1.0]}
TILT = normal(*SHAPE, seed=100) / 8  # gradient of linear reward "a" with respect to a clean latent
START = NoiseSource("a lobster", 0, SHAPE).start()


def affine(eta: float = 0.0):
    """A Gaussian's process, the factor between start and picture without fresh noise, and the picture of start 0."""
    denoiser = GaussianMixture(0.1 * normal(1, *SHAPE), 0.3).bind(STEPS, eta)
    x = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)])
    for step in range(STEPS):
        x = denoiser.kernel.deterministic().mean(step, x, denoiser.denoise(x, step))
    return denoiser, float((x[1] - x[0]).mean()), x[0]


@pytest.mark.parametrize("sphere", [False, True])
def test_reno_is_a_plain_loop(sphere: bool) -> None:
    """Its steps are those of torch's SGD along a gradient that is known, and the best iterate is returned."""
    denoiser, slope, offset = affine()
    options = {"iterations": 5, "rate": 2.0, "clip": 0.3, "momentum": 0.8, "regularisation": 0.02}
    z = START.clone().requires_grad_()
    optimizer = torch.optim.SGD([z], lr=2.0, momentum=0.8, nesterov=True)
    for _ in range(4):
        size = z.detach().norm()
        gradient = slope * TILT - 0.02 * z.detach() * (1 - (D - 1) / size**2)
        if sphere:
            gradient = gradient - (gradient * z.detach()).sum() / size**2 * z.detach()
        z.grad = -gradient * min(0.3 / gradient.norm(), 1.0)
        optimizer.step()
        if sphere:
            z.data *= START.norm() / z.data.norm()
    soup = run(ReNO(num_inference_steps=STEPS, sphere=sphere, units=UNITS, **options), ONE, denoiser=denoiser)
    torch.testing.assert_close(soup.images[0], denoiser.decode(offset + slope * z.detach()), rtol=0, atol=1e-5)
    assert (soup.ledger.nfe, soup.ledger.queries, soup.ledger.gradients) == (5 * STEPS, {"a": 5}, 4 * STEPS)


def test_on_the_sphere_and_under_the_penalty_the_optimum_is_known() -> None:
    """Along the reward's gradient: at the start's norm, or where the slope of the penalty is that of the value."""
    denoiser, slope, offset = affine()
    unit = TILT / TILT.norm()
    pull = slope * float(TILT.norm()) / 0.02
    radius = (pull + math.sqrt(pull**2 + 4 * (D - 1))) / 2  # of r - (d - 1) / r = pull
    for sphere, size in ((True, float(START.norm())), (False, radius)):
        options = {"rate": 3.0, "clip": 1e9, "momentum": 0.1, "regularisation": 0.02, "checkpointing": False}
        sampler = ReNO(num_inference_steps=STEPS, iterations=300, sphere=sphere, units=UNITS, **options)
        found = run(sampler, ONE, denoiser=denoiser)
        torch.testing.assert_close(found.images[0], denoiser.decode(offset + slope * size * unit), rtol=0, atol=2e-3)


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("kind", ["linear", "tchebycheff"])
def test_gradients_through_a_trajectory_are_central_differences(every_step: bool, kind: str) -> None:
    """Of a mixture, with noise in each step, all preferences at once, a penalty, and checkpointing."""
    denoiser = bind(BaseModel(num_inference_steps=4))
    problem, noise = Problem(denoiser, oracle(linears(2)), 2), NoiseSource("a lobster", 0, SHAPE)
    units = Units(torch.tensor([0.1, 0.2]), torch.tensor([0.5, 2.0]))
    evaluator = Evaluator(problem, Value(lattice(2, 3).weights, kind, units), 0.3, 0.1 * normal(5, *SHAPE))

    def penalty(noises: Tensor, predicted: Tensor) -> Tensor:
        return 0.1 * norm_penalty(noises) + predicted.square().flatten(1).mean(1)

    def objective(noises: Tensor) -> Tensor:
        clean, predicted = unrolled.draw(noises)
        rewards = problem.query(clean, 4)
        return evaluator.values(rewards.unsqueeze(1), clean.unsqueeze(1), 4).squeeze(1) - penalty(noises, predicted)

    unrolled = Unrolled(evaluator, noise, "a test", checkpointing=True)
    first = noises_of(problem, noise, every_step)
    assert len(first) == (4 if every_step else 1)  # the last step has no noise
    noises = first + 0.1 * normal(4, *first.shape, seed=3)
    made = unrolled.ascents(noises, penalty)
    direction = normal(*noises.shape, seed=4)
    up, down = (objective(noises + sign * 1e-2 * direction) for sign in (1, -1))
    expected = (made.ascent * direction).flatten(1).sum(1)
    torch.testing.assert_close((up - down) / 2e-2, expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(made[:3], unrolled.pictures(noises, penalty)[:3])


@pytest.mark.parametrize("kind", ["linear", "tchebycheff"])
def test_at_the_first_picture_each_reward_is_differentiated_once_for_all_preferences(kind: str) -> None:
    """What it finds is what each preference finds by itself, with penalties on the noise and on distances."""
    problem, noise = Problem(bind(BaseModel(num_inference_steps=4)), oracle(linears(2)), 64), NoiseSource("a", 0, SHAPE)
    units = Units(torch.tensor([0.1, 0.2]), torch.tensor([0.5, 2.0]))
    evaluator = Evaluator(problem, Value(lattice(2, 3).weights, kind, units), 0.3, unsteered_previews(problem, noise))
    unrolled, first = Unrolled(evaluator, noise, "a test", False), noises_of(problem, noise, True)
    _, reference = unrolled.draw(first.unsqueeze(0))

    def penalty(noises: Tensor, predicted: Tensor) -> Tensor:
        return 0.1 * norm_penalty(noises) + (predicted - reference).square().flatten(1).mean(1)

    before = problem.ledger.gradients
    made = unrolled.first(first, penalty)
    assert problem.ledger.gradients - before == 2 * 4  # and not of four preferences
    apart = unrolled.ascents(first.expand(4, *first.shape), penalty)
    torch.testing.assert_close(list(made), list(apart), rtol=1e-4, atol=1e-5)


def test_without_units_each_reward_pulls_with_a_gradient_of_length_one() -> None:
    problem, noise = Problem(bind(BaseModel(num_inference_steps=4)), oracle(linears(2)), 64), NoiseSource("a", 0, SHAPE)
    evaluator = Evaluator(problem, Value(torch.eye(2)))
    unrolled, first = Unrolled(evaluator, noise, "a test", False), noises_of(problem, noise, True)
    made = unrolled.first(first, lambda noises, predicted: noises.new_zeros(len(noises)))
    torch.testing.assert_close(made.ascent.flatten(1).norm(dim=1), torch.ones(2))
    torch.testing.assert_close(evaluator.value(made.rewards.unsqueeze(1)).flatten(), torch.zeros(2), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "sampler",
    [
        DNO(num_inference_steps=STEPS, iterations=6, rate=0.1),
        MIRA(num_inference_steps=STEPS, iterations=6, rate=0.1, beta=0.1),
        MIRA(num_inference_steps=STEPS, iterations=6, rate=0.1, sphere=True),
    ],
)
def test_all_noises_are_optimised_and_the_bill_is_exact(sampler: NoiseOptimisation) -> None:
    denoiser = bind(sampler)
    soup, base = run(sampler, ONE, denoiser=denoiser), run(BaseModel(num_inference_steps=STEPS), ONE, denoiser=denoiser)
    more = STEPS if isinstance(sampler, MIRA) else 0  # the unsteered trajectory
    assert soup.ledger.nfe == 6 * STEPS + more
    assert (soup.ledger.queries["a"], soup.ledger.gradients) == (6, 5 * STEPS)
    assert float(soup.rewards) > float(base.rewards) + 0.5


def black_box(count: int = 2, of: str = "b"):
    asking = oracle(linears(count))
    asking.rewards[of].is_differentiable = False
    return asking


def test_probes_stand_for_the_gradient_of_a_reward_without_one() -> None:
    """With many of them, the gradient is nearly the true one; rewards with a gradient need none."""
    noise, value = NoiseSource("a", 0, SHAPE), Value(torch.eye(2), units=Units(torch.zeros(2), torch.ones(2)))
    denoiser, made = GaussianMixture(0.1 * normal(1, *SHAPE), 0.3).bind(STEPS, 1.0), []
    for asking, probes in ((oracle(linears(2)), 0), (black_box(), 400)):
        problem = Problem(denoiser, asking, 64)
        unrolled = Unrolled(Evaluator(problem, value), noise, "a test", False, probes)
        first = noises_of(problem, noise, True)
        made.append(
            unrolled.ascents(first.expand(2, *first.shape), lambda noises, predicted: noises.new_zeros(len(noises)))
        )
    true, estimated = (pictures.ascent.flatten(1) for pictures in made)
    torch.testing.assert_close(estimated[0], true[0])
    torch.testing.assert_close(made[0].rewards, made[1].rewards)
    assert torch.nn.functional.cosine_similarity(true[1], estimated[1], dim=0) > 0.9
    assert 0.8 < float(estimated[1].norm() / true[1].norm()) < 1.3


@pytest.mark.parametrize(("make", "options"), [(DNO, {}), (MIRA, {"beta": 0.1}), (ReNO, {"clip": 2.0})])
def test_black_box_rewards_are_optimised_by_probes_and_refused_without(make: type, options: dict) -> None:
    sampler = make(num_inference_steps=STEPS, iterations=5, rate=0.3, probes=6, **options)
    denoiser, points, gains = bind(sampler), Preferences(["a", "b"], [[0.0, 1.0]]), []
    for seed in range(4):
        problem = Problem(denoiser, black_box(), 64)
        soup = sampler.run(problem, points, "a lobster", seed)
        base = run(BaseModel(num_inference_steps=STEPS, eta=sampler.eta), points, denoiser=denoiser, seed=seed)
        gains.append(float(soup.rewards[0, 1] - base.rewards[0, 1]))
    assert min(gains) >= 0
    assert sum(gains) > 1
    planned = count(sampler, points, model=denoiser, differentiable=["a"])
    assert (planned.queries, planned.nfe) == (soup.ledger.queries, soup.ledger.nfe)
    assert planned.gradients == soup.ledger.gradients == 4 * STEPS
    with pytest.raises(TypeError, match=f"{make.__name__} needs gradients .* which 'b' can't give"):
        make(num_inference_steps=STEPS).run(Problem(denoiser, black_box(), 64), points, "a lobster", 0)


def test_mira_keeps_the_picture_and_dno_keeps_the_noise_ordinary() -> None:
    base = run(BaseModel(num_inference_steps=STEPS), ONE).images
    far, near = (
        run(MIRA(num_inference_steps=STEPS, iterations=6, rate=0.1, beta=beta), ONE).images for beta in (0.0, 1e3)
    )
    assert (near - base).square().mean() < 0.3 * (far - base).square().mean()
    sizes = []
    for weight in (0.0, 10.0):
        seen = []
        run(
            DNO(num_inference_steps=STEPS, iterations=25, rate=0.2, regularisation=weight, checkpointing=False),
            ONE,
            on_step=seen.append,
        )
        sizes.append(float(seen[-1].observation.values["mean square of the noise"]))
    assert abs(sizes[1] - 1) < 0.5 * abs(sizes[0] - 1)


def test_likely_noise_has_no_penalty_and_unlikely_noise_has() -> None:
    noise, order = normal(3, 4, 3, 16, 16), torch.randperm(4 * 3 * 256, generator=torch.Generator().manual_seed(0))
    ordinary = noise.clone().requires_grad_()
    found = improbability(ordinary, [order])
    (gradient,) = torch.autograd.grad(found.sum(), ordinary)
    likely = found == 0
    assert bool((found < 3).all() and likely.any())
    assert not gradient[likely].any()
    assert (improbability(noise + 0.3, [order]) > 10).all()
    assert (improbability(1.3 * noise, [order]) > 10).all()
    assert (improbability(noise[:, :1, :, :1, :1].expand_as(noise), [order]) > 10).all()  # the same few numbers
    count, mean = 768, float((noise[0] + 0.3).flatten().view(768, 4).mean(0).square().sum())
    alone = improbability(noise[:1] + 0.3, [])
    assert float(alone) >= count * mean / 8 - math.log(2) - 1e-3
    sizes = torch.linspace(0.5, 1.5, 11).view(-1, 1, 1, 1, 1) * noise[:1, :1] / noise[:1, :1].norm()
    assert int(norm_penalty(sizes * math.sqrt(noise[0, 0].numel() - 1)).argmin()) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0: give a number above 0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"momentum": 1.0}, "momentum is 1.0: give a number above 0 and below 1"),
        (
            {"scalarisation": "ranks"},
            "scalarisation is ranks: ReNO compares pictures of different iterations",
        ),
        ({"iterations": 0}, "iterations is 0: give at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReNO(**options)
