"""Methods that search the noise of each step, against plain loops for one preference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.flow import FlowAncestral
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import (
    DTS,
    RBF,
    SVDD,
    BaseModel,
    Demon,
    DSearch,
    EpsilonGreedy,
    Evaluator,
    Problem,
    Sampler,
    Value,
    WeightedSum,
)
from srsoup_lightning.samplers.walk import complete
from tests.diffusion.test_flow import exact
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, bind, lattice, linear, linears, normal, oracle, run

STEPS = 6
ONE = Preferences(["a"], [[1.0]])
NOISE = NoiseSource("a lobster", 0, SHAPE)
ENDS = pytest.mark.parametrize("final_alpha", [1.0, 0.99])  # a last step without noise, and one with noise


def searched(denoiser: Denoiser) -> int:
    return sum(denoiser.kernel.sigma(step) > 0 for step in range(STEPS))


def plain(denoiser: Denoiser, x: Tensor, choose: Callable[[int, Callable[[Tensor], Tensor]], Tensor]) -> Tensor:
    """The picture (1, 3, H, W) of a loop whose noise (C, H, W) is chosen by the scores (B,) of noise (B, C, H, W)."""
    for step in range(STEPS):
        mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))

        def score(z: Tensor, step: int = step, mean: Tensor = mean, sigma: float = sigma) -> Tensor:
            children = mean + sigma * z
            clean = denoiser.denoise(children, step + 1).x0 if step + 1 < STEPS else children
            return linear(0)(denoiser.decode_preview(clean))

        x = mean + sigma * choose(step, score) if sigma else mean
    return denoiser.decode(x)


def require(soup, picture: Tensor, queries: int, nfe: int) -> None:
    torch.testing.assert_close(soup.images, picture, rtol=0, atol=1e-5)
    assert (soup.ledger.queries, soup.ledger.nfe) == ({"a": queries}, nfe)


@pytest.mark.parametrize("level", [0, 2, STEPS - 1, STEPS])
def test_completion_is_the_tweedie_estimate_or_the_deterministic_sampler(level: int) -> None:
    denoiser = bind(BaseModel(num_inference_steps=STEPS))
    problem, x = Problem(denoiser, oracle(linears(1)), 64), normal(3, *SHAPE)
    assert complete(problem, x, level, 1).level == level
    preview, expected = problem.preview(x, level), x
    torch.testing.assert_close(complete(problem, x, level, 1)[::2], (preview.x0, preview))
    for step in range(level, STEPS):
        expected = denoiser.kernel.deterministic().mean(step, expected, denoiser.denoise(expected, step))
    before = problem.ledger.nfe
    found = complete(problem, x, level, STEPS)
    assert problem.ledger.nfe - before == 3 * (STEPS - level)
    torch.testing.assert_close(found.clean, expected)
    torch.testing.assert_close(found.first, preview)
    half = complete(problem, x, 2, 2)  # levels 2 and 4
    jumped = denoiser.kernel.jump(4, denoiser.denoise(x, 2))
    torch.testing.assert_close(half[:2], (denoiser.denoise(jumped, 4).x0, 4))


def test_an_evaluator_asks_about_completions_and_returns_the_first_predictions() -> None:
    problem = Problem(bind(BaseModel(num_inference_steps=STEPS)), oracle(linears(1)), 64)
    x = normal(3, *SHAPE).expand(2, 3, *SHAPE)
    found = Evaluator(problem, Value(torch.ones(2, 1))).preview(x, 1, 3)
    assert (problem.ledger.nfe, problem.ledger.queries) == (9, {"a": 3})
    clean, _, first = complete(problem, x[0], 1, 3)
    torch.testing.assert_close(found.rewards[1], problem.query(clean, 4))
    torch.testing.assert_close(tuple(part[1] for part in found.prediction), tuple(first))


def test_one_beam_of_width_one_is_svdd() -> None:
    beam = DSearch(num_inference_steps=STEPS, beams=1, children=5, width=1.0)
    one, other = (run(make, lattice(2, 3)) for make in (beam, SVDD(num_inference_steps=STEPS, children=5)))
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=0)
    assert (one.ledger.nfe, one.ledger.queries) == (other.ledger.nfe, other.ledger.queries)


@ENDS
def test_beams_that_never_branch_are_judged_at_the_end(final_alpha: float) -> None:
    sampler = DSearch(num_inference_steps=STEPS, beams=4, children=1, width=1.0, beam_schedule="constant")
    denoiser = bind(sampler, final_alpha)
    pictures = [
        plain(denoiser, NOISE.start(k)[None], lambda step, _, k=k: NOISE.candidates(4, step)[k]) for k in range(4)
    ]
    best = max(pictures, key=lambda picture: float(linear(0)(picture)))
    require(run(sampler, ONE, denoiser=denoiser), best, 4, 4 * STEPS)


@ENDS
@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("options", [{}, {"beams": 5, "children": 2, "width": 3.0, "beam_schedule": "linear"}])
@pytest.mark.parametrize("search_schedule", ["exponential", "all"])
def test_a_beam_search_costs_what_its_stages_say(final_alpha, lookahead, options, search_schedule) -> None:
    sampler = DSearch(num_inference_steps=STEPS, lookahead=lookahead, search_schedule=search_schedule, **options)
    denoiser = bind(sampler, final_alpha)
    stages = sampler.stages([denoiser.kernel.sigma(step) for step in range(STEPS)])
    assert (stages[0].beams, stages[-1].kept) == (sampler.beams, 1)
    if search_schedule == "all":
        area = sampler.width * sampler.children * sampler.beams
        assert all(stage.children == area // stage.beams for stage in stages[: searched(denoiser)])
    soup = run(sampler, ONE, denoiser=denoiser)
    scored = [
        (step, beams * children) for step, (beams, children, kept) in enumerate(stages) if children > 1 or kept < beams
    ]
    passed = sum(stage.kept for stage in stages[:-1] if not stage.scored)
    assert soup.ledger.queries == {"a": sum(number for _, number in scored)}
    completed = sum(number * min(1 + lookahead, STEPS - 1 - step) for step, number in scored)
    assert soup.ledger.nfe == sampler.beams + completed + passed


@ENDS
@pytest.mark.parametrize(("budget", "completion"), [(4 + STEPS, 1), (23, 1), (60, 2)])
def test_rollover_is_that_of_a_plain_loop(final_alpha: float, budget: int, completion: int) -> None:
    sampler = RBF(num_inference_steps=STEPS, budget=budget, initial=4, completion=completion)
    denoiser, seen = bind(sampler, final_alpha), []
    pool = torch.stack([NOISE.start(k) for k in range(4)])
    clean = complete(Problem(denoiser, oracle({}), 64), pool, 0, completion).clean
    scores = linear(0)(denoiser.decode_preview(clean))
    best, steps, spent, early = float(scores.max()), searched(denoiser), 0, []

    def choose(step: int, score: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal best, spent
        quota, tried = (budget - 4) * (step + 1) // steps - spent, []
        while len(tried) < quota:
            z = NOISE.step(step, len(tried))
            tried.append((float(score(z[None])), z))
            if step < steps - 1 and tried[-1][0] > best:
                early.append(step)
                break
        spent, (value, z) = spent + len(tried), max(tried, key=lambda pair: pair[0])
        best = max(best, value)
        return z

    picture = plain(denoiser, pool[scores.argmax()][None], choose)
    soup = run(sampler, ONE, denoiser=denoiser, on_step=lambda moment: seen.append(moment.observation))
    free = 0 if final_alpha == 1 else int(seen[-1].values["candidates"])  # children at the end need no prediction
    require(soup, picture, budget, budget + 4 * (completion - 1) - free)
    assert spent == budget - 4
    assert budget == 4 + STEPS or early


@ENDS
@pytest.mark.parametrize(("candidates", "rounds", "epsilon"), [(1, 1, 0.0), (3, 1, 1.0), (3, 4, 0.5)])
def test_epsilon_greedy_is_a_plain_loop(final_alpha: float, candidates: int, rounds: int, epsilon: float) -> None:
    sampler = EpsilonGreedy(num_inference_steps=STEPS, candidates=candidates, rounds=rounds, epsilon=epsilon)
    denoiser, d = bind(sampler, final_alpha), 48

    def choose(step: int, score: Callable[[Tensor], Tensor]) -> Tensor:
        pivot = NOISE.step(step)
        for number in range(rounds):
            drawn, tried = NOISE.normal(candidates, "candidates", step, "round", number), [pivot]
            fresh = NOISE.uniform(candidates, "fresh", step, number)
            radius = NOISE.uniform(candidates, "radius", step, number) * 0.15 * sqrt(d)
            for k in range(candidates):
                moved = pivot + radius[k] * drawn[k] / drawn[k].norm()
                tried.append(drawn[k] if fresh[k] < epsilon else moved * pivot.norm() / moved.norm())
            pivot = max(tried, key=lambda z: float(score(z[None])))
        return pivot

    last = 0 if final_alpha == 1 else 1 + candidates * rounds  # children at the end need no prediction
    queries = searched(denoiser) * (1 + candidates * rounds)
    picture = plain(denoiser, NOISE.start()[None], choose)
    require(run(sampler, ONE, denoiser=denoiser), picture, queries, 1 + queries - last)


def test_rollover_improves_a_flow_that_starts_without_signal() -> None:
    times = tuple(1 - step / STEPS for step in range(STEPS + 1))
    steered, base = RBF(num_inference_steps=STEPS, budget=60), BaseModel(num_inference_steps=STEPS)
    mixture = GaussianMixture(0.5 * normal(2, *SHAPE), spread=0.5)
    flow = replace(
        bind(base), kernel=FlowAncestral(times, 1.0), denoise=lambda x, level: exact(mixture, x, times[level])
    )
    made = [[run(make, ONE, denoiser=flow, seed=seed).rewards for make in (steered, base)] for seed in range(8)]
    gain = torch.stack([better - before for better, before in made])
    assert gain.mean() > 4 * gain.std() / sqrt(8)


def test_epsilon_greedy_that_does_not_move_is_the_base_model() -> None:
    still = EpsilonGreedy(num_inference_steps=STEPS, candidates=2, rounds=2, strength=0, epsilon=0)
    one, base = (run(make, lattice(2, 2)) for make in (still, BaseModel(num_inference_steps=STEPS)))
    torch.testing.assert_close(one.images, base.images)
    with pytest.raises(ValueError, match=r"epsilon is 1.5: give a probability in \[0, 1\]"):
        EpsilonGreedy(epsilon=1.5)


def test_the_tanh_demon_of_previews_is_the_weighted_sum_of_tanh() -> None:
    demon, other = (
        Demon(num_inference_steps=STEPS, candidates=5),
        WeightedSum(num_inference_steps=STEPS, candidates=5, shaping="tanh"),
    )
    one, other = (run(make, lattice(2, 3)) for make in (demon, other))
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=1e-5)
    assert (one.ledger.nfe, one.ledger.queries) == (other.ledger.nfe, other.ledger.queries)


@ENDS
def test_the_boltzmann_demon_is_a_plain_loop(final_alpha: float) -> None:
    sampler = Demon(num_inference_steps=STEPS, candidates=5, kind="boltzmann", temperature=0.5)
    denoiser = bind(sampler, final_alpha)

    def choose(step: int, score: Callable[[Tensor], Tensor]) -> Tensor:
        z = NOISE.candidates(5, step)
        scores = score(z)
        total = torch.einsum("k,kchw->chw", (scores / (0.5 * scores.std(correction=0))).softmax(0), z)
        return sqrt(total.numel()) * total / total.norm()

    number = 5 * searched(denoiser)
    picture = plain(denoiser, NOISE.start()[None], choose)
    require(run(sampler, ONE, denoiser=denoiser), picture, number, STEPS + 25)


@ENDS
@pytest.mark.parametrize("completion", [2, 3])
def test_a_demon_pays_for_its_completions(final_alpha: float, completion: int) -> None:
    sampler = Demon(num_inference_steps=STEPS, candidates=3, completion=completion)
    soup = run(sampler, ONE, denoiser=bind(sampler, final_alpha))
    assert soup.ledger.nfe == STEPS + sum(3 * min(completion, STEPS - 1 - step) for step in range(STEPS - 1))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Demon, {"scalarisation": "ranks"}, "scalarisation is ranks: the tanh demon adds up rewards"),
        (Demon, {"penalty": 1.0}, "leave out units and penalty"),
        (Demon, {"temperature": 0}, "temperature is 0: give a number above 0"),
        (RBF, {"scalarisation": "ranks"}, "scalarisation is ranks: RBF compares previews"),
        (RBF, {"budget": 74}, "budget is 74: give at least 75"),
        (DSearch, {"beam_schedule": "cubic"}, "beam_schedule"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make: type[Sampler], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


METHODS = {
    "dsearch": DSearch(num_inference_steps=STEPS, units={"a": [0, 1], "b": [0, 1]}),
    "rbf": RBF(num_inference_steps=STEPS, budget=60, units={"a": [0, 1], "b": [0, 1]}),
    "epsilon-greedy": EpsilonGreedy(num_inference_steps=STEPS, rounds=3, units={"a": [0, 1], "b": [0, 1]}),
    "tanh demon": Demon(num_inference_steps=STEPS),
    "boltzmann demon": Demon(num_inference_steps=STEPS, kind="boltzmann", units={"a": [0, 1], "b": [0, 1]}),
}


@pytest.mark.parametrize("name", METHODS)
def test_preferences_that_are_served_together_get_what_they_get_alone(name: str) -> None:
    preferences = Preferences(["a", "b"], [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    together = run(METHODS[name], preferences)
    alone = [run(METHODS[name], Preferences(["a", "b"], [weights])) for weights in preferences.weights.tolist()]
    torch.testing.assert_close(together.images, torch.cat([soup.images for soup in alone]), rtol=0, atol=1e-5)
    assert together.ledger.nfe < sum(soup.ledger.nfe for soup in alone)
    assert len(together.images.unique(dim=0)) == 3


@pytest.mark.parametrize("name", [*METHODS, "dts"])
def test_values_are_higher_than_those_of_the_base_model(name: str) -> None:
    method, preferences = (
        (METHODS | {"dts": DTS(num_inference_steps=STEPS)})[name],
        Preferences(["a", "b"], [[0.5, 0.5]]),
    )
    steered, base = (
        torch.stack([run(make, preferences, seed=seed).rewards.mean() for seed in range(12)])
        for make in (method, BaseModel(num_inference_steps=STEPS))
    )
    gain = steered - base
    assert gain.mean() > 4 * gain.std() / sqrt(12)
