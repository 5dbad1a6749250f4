"""Searches for the start: the archive against brute force, each proposal against its formula, and all costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import (
    SES,
    TRS,
    Archive,
    BaseModel,
    Evaluator,
    NoiseSearch,
    Sampler,
    SearchOverPaths,
    Value,
    ZeroOrder,
)
from srsoup_lightning.samplers.noise_search import neighbours_of
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.samplers.spectral import moments
from srsoup_lightning.search.bands import haar
from tests.samplers.toys import NAMES, SHAPE, Tally, bind, lattice, linears, normal, oracle, rehearsed_together, run

STEPS = 5
SMALL: dict[str, Callable[..., Sampler]] = {
    "zero order": partial(ZeroOrder, neighbours=3, rounds=4, num_inference_steps=STEPS),
    "trs": partial(TRS, warm_up=6, regions=3, batch=4, iterations=3, num_inference_steps=STEPS),
    "ses": partial(SES, popsize=5, elites=3, generations=4, level=1, num_inference_steps=STEPS),
    "search over paths": partial(SearchOverPaths, num_inference_steps=STEPS),
}
SEARCHES = [name for name in SMALL if name != "search over paths"]
ONE, UNITS = Preferences(["a"], [[1.0]]), {"a": [0.5, 2.0], "b": [-0.3, 0.7]}


def archive_of(
    sampler: Sampler, weights: Tensor, tally: Tally | None = None, kind: str = "linear"
) -> tuple[Archive, NoiseSource]:
    tally, noise = tally or Tally(), NoiseSource("a lobster", 0, SHAPE)
    problem = Problem(tally.denoiser(bind(sampler)), oracle(tally.rewards(linears(weights.shape[1]))), 64)
    return Archive(Evaluator(problem, Value(weights, kind)), noise), noise


def added(sampler: NoiseSearch, archive: Archive, noise: NoiseSource) -> Iterator[Tensor]:
    for starts in sampler.proposals(archive, noise):
        archive.add(starts)
        yield starts


def test_an_archive_draws_each_start_once_with_the_same_noise_and_ranks_all_of_them() -> None:
    sampler, tally, weights = ZeroOrder(num_inference_steps=STEPS, eta=0.7), Tally(), lattice(2, 4).weights
    archive, noise = archive_of(sampler, weights, tally)
    starts, denoiser = normal(6, *SHAPE), bind(sampler)
    for rows, latest in (([0, 1, 0], [0, 1, 0]), ([2, 1, 3], [2, 1, 3]), ([3, 0], [3, 0]), ([4, 5], [4, 5])):
        archive.add(starts[rows])
        assert archive.latest.tolist() == latest
    assert (tally.counts["denoise"], tally.counts["a"], tally.counts["b"]) == (6 * STEPS, 6, 6)
    torch.testing.assert_close(archive.starts, starts, rtol=0, atol=0)
    x = starts
    for step in range(STEPS):
        mean = denoiser.kernel.mean(step, x, denoiser.denoise(x, step))
        x = mean + denoiser.kernel.sigma(step) * noise.step(step)
    torch.testing.assert_close(archive.clean, x)
    scores = torch.stack([score(denoiser.decode(x)) for score in linears(2).values()], 1)
    values = (scores - scores[:2].mean(0)) / scores[:2].std(0, correction=0) @ weights.T
    torch.testing.assert_close(archive.values(), values.T, rtol=1e-4, atol=1e-4)
    assert archive.best().tolist() == values.argmax(0).tolist()


@pytest.mark.parametrize("kind", ["linear", "tchebycheff", "ranks"])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_preference_takes_the_best_picture_of_all_that_were_evaluated(name: str, kind: str) -> None:
    seen: dict[bytes, Tensor] = {}

    def watching(images: Tensor) -> Tensor:
        seen.update({image.numpy().tobytes(): image.clone() for image in images})
        return linears(1)["a"](images)

    preferences, sampler = lattice(2, 5), SMALL[name](scalarisation=kind, units=UNITS)
    soup = run(sampler, preferences, linears(2) | {"a": watching})
    pictures = torch.stack(list(seen.values()))
    scores = torch.stack([score(pictures) for score in linears(2).values()], 1).double()
    table = torch.tensor(list(UNITS.values()), dtype=torch.float64)
    standard = (scores - table[:, 0]) / table[:, 1]
    for weights, image in zip(preferences.weights.double(), soup.images, strict=True):
        if kind == "ranks":
            values = (scores.unsqueeze(1) > scores).sum(1).double() @ weights
        elif kind == "linear":
            values = standard @ weights
        else:
            values = -((6 - standard) * weights).amax(1)
        found = next(k for k, picture in enumerate(pictures) if torch.equal(picture, image))
        assert float(values[found]) == pytest.approx(float(values.max()), abs=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("name", SMALL)
def test_pictures_are_better_than_those_of_the_model(name: str, eta: float) -> None:
    """Paired over seeds, by more than four standard errors."""
    sampler, base = SMALL[name](eta=eta), BaseModel(num_inference_steps=STEPS, eta=eta)
    gains = [float(run(sampler, ONE, seed=s).rewards - run(base, ONE, seed=s).rewards) for s in range(16)]
    assert np.mean(gains) > 4 * np.std(gains, ddof=1) / 4


@pytest.mark.parametrize("name", SMALL)
def test_preferences_that_agree_share_all_of_their_work(name: str) -> None:
    alike = [[1.0, 0.0], [1 - 1e-5, 1e-5]]
    shared, alone = (run(SMALL[name](units=UNITS), Preferences(NAMES[:2], rows)) for rows in (alike, alike[1:]))
    assert (shared.ledger.queries, shared.ledger.nfe) == (alone.ledger.queries, alone.ledger.nfe)


def number_of_pictures(sampler: NoiseSearch, preferences: int) -> int:
    """The formulas of the docstrings."""
    if isinstance(sampler, ZeroOrder):
        return 1 + sampler.neighbours * (1 + preferences * (sampler.rounds - 1))
    if isinstance(sampler, SES):
        return sampler.popsize * (1 + preferences * (sampler.generations - 1))
    return sampler.warm_up + preferences * sampler.batch * sampler.iterations


@pytest.mark.parametrize(
    "sampler",
    [
        *(ZeroOrder(neighbours=n, rounds=r, num_inference_steps=3) for n, r in ((1, 1), (2, 4), (5, 3))),
        *(SES(popsize=n, generations=g, elites=2, num_inference_steps=3) for n, g in ((2, 1), (10, 3), (4, 6))),
        *(TRS(warm_up=n, batch=b, iterations=i, num_inference_steps=3) for n, b, i in ((80, 20, 16), (2, 3, 4))),
        SES(level=6, num_inference_steps=2),
    ],
    ids=repr,
)
def test_costs_are_those_of_the_formula(sampler: NoiseSearch) -> None:
    steps, alone = sampler.num_inference_steps, count(sampler, ONE)
    assert (alone.nfe, alone.queries) == (
        2 * steps * number_of_pictures(sampler, 1),
        {"a": number_of_pictures(sampler, 1)},
    )
    both = rehearsed_together(sampler, lattice(2, 3))
    assert both.queries["a"] == both.queries["b"] == both.nfe / (2 * steps) <= number_of_pictures(sampler, 4)


@given(seed=st.integers(0, 999), cosine=st.floats(-1, 1))
def test_neighbours_have_the_norm_of_the_start_and_the_angle_to_it(seed: int, cosine: float) -> None:
    start = 3 * normal(*SHAPE, seed=seed)
    found = neighbours_of(start, normal(4, *SHAPE, seed=seed + 1), cosine).flatten(1)
    torch.testing.assert_close(found.norm(dim=1), start.norm().expand(4))
    torch.testing.assert_close(found @ start.flatten() / start.norm() ** 2, torch.full((4,), cosine), rtol=0, atol=1e-5)


def test_zero_order_search_goes_on_from_the_best_start_of_each_preference() -> None:
    sampler, weights = ZeroOrder(num_inference_steps=STEPS, neighbours=3), torch.eye(2)
    archive, noise = archive_of(sampler, weights)
    for number, starts in enumerate(sampler.proposals(archive, noise)):
        if number:
            pivots = archive.starts[archive.best().unique()].flatten(1)
            cosines = torch.nn.functional.cosine_similarity(starts.flatten(1), pivots.repeat_interleave(3, 0))
            torch.testing.assert_close(cosines, torch.full_like(cosines, 0.95), rtol=0, atol=1e-5)
        archive.add(starts)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_ses_fits_the_low_band_to_the_elites_and_leaves_the_high_bands(floor: float) -> None:
    sampler = SES(num_inference_steps=STEPS, popsize=6, elites=3, generations=3, level=1, variance_floor=floor)
    archive, noise = archive_of(sampler, torch.tensor([[1.0, 0.0], [0.3, 0.7]]))
    _, high = haar(noise.start(), 1)
    for generation, starts in enumerate(added(sampler, archive, noise)):
        low, bands = haar(starts, 1)
        torch.testing.assert_close(bands[0], high[0].expand_as(bands[0]))
        drawn = haar(noise.normal(6, "generation", generation), 1)[0]
        expected = [drawn.numpy()]
        if generation:
            every = haar(archive.starts[: -len(starts)], 1)[0].numpy()
            order = np.argsort(-archive.values()[:, : len(every)].numpy(), axis=1)[:, :3]
            variances = [np.maximum(every[row].var(0, ddof=1) + 1e-7, floor) for row in order]
            expected = [every[row].mean(0) + v**0.5 * drawn.numpy() for row, v in zip(order, variances, strict=True)]
        torch.testing.assert_close(low, torch.from_numpy(np.concatenate(expected)), rtol=1e-4, atol=1e-5)
    mean, variance = moments(torch.zeros(1, 3, 2), floor)
    assert (float(mean.max()), float(variance.max())) == (0.0, pytest.approx(max(floor, 1e-7)))


def test_bad_options_are_refused() -> None:
    for make, options, message in (
        (ZeroOrder, {"cosine": 1.5}, "cosine is 1.5"),
        (SES, {"elites": 11}, "elites is 11: give at most popsize, 10"),
        (TRS, {"length": 3.0}, "length is 3.0"),
        (TRS, {"shortest": 0.0}, "shortest 0.0"),
        (TRS, {"factor": 1.0}, "factor is 1.0"),
        (SearchOverPaths, {"start": 1.0}, "start is 1.0"),
        (SearchOverPaths, {"back": 0.5}, "back is 0.5: give a share above 0 and at most start, 0.4"),
        (SearchOverPaths, {"ahead": 0.2}, "ahead is 0.2: give a share above back, 0.2"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    with pytest.raises(ValueError, match="level is 4: latents of 4 x 4 can be halved 2 times at most"):
        run(SES(num_inference_steps=STEPS), ONE)
