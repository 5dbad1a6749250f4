"""Costs of a candidate's preview, and when a cheaper one is the same picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import DDIM
from srsoup_lightning.problem import Preview
from srsoup_lightning.samplers import Auto, FixedSoup, Problem, SRSoup, WeightedSum
from tests.samplers.toys import SHAPE, Tally, bind, lattice, linears, normal, oracle, run

STEPS, N = 6, 4
EVALUATIONS = 2


def sampler(preview: Preview = "guided", **options: object) -> SRSoup:
    return SRSoup(num_inference_steps=STEPS, candidates=N, sharing=FixedSoup(0, STEPS), preview=preview, **options)


@pytest.mark.parametrize(("preview", "evaluations"), [("guided", EVALUATIONS), ("unguided", 1), ("reused", 0)])
@pytest.mark.parametrize("final_alpha", [1.0, 0.95])
def test_a_preview_costs_its_evaluations(preview: Preview, evaluations: int, final_alpha: float) -> None:
    asking = sampler(preview)
    tally = Tally()
    denoiser = tally.denoiser(bind(asking, final_alpha), EVALUATIONS)
    ledger = run(asking, lattice(2, 3), denoiser=denoiser).ledger
    # all stand at one point at first; a step to the clean latent has no candidates, one to the last level no prediction
    trajectories = 1 + 4 * (STEPS - 1)
    candidates = N * (1 + 2 * (STEPS - 2))
    assert ledger.nfe == EVALUATIONS * trajectories + evaluations * candidates
    assert ledger.nfe == EVALUATIONS * tally.counts["denoise"] + tally.counts["denoise_unguided"]
    shown = candidates + (0 if final_alpha == 1 else 2 * N)
    assert tally.counts["decode_preview"] == shown
    assert ledger.decodes == shown + tally.counts["decode"]


@pytest.mark.parametrize(("preview", "evaluations"), [("guided", EVALUATIONS), ("unguided", 1)])
def test_a_completion_costs_its_evaluations_while_steps_are_left(preview: Preview, evaluations: int) -> None:
    asking = sampler(preview, completion=3)
    tally = Tally()
    ledger = run(asking, lattice(2, 3), denoiser=tally.denoiser(bind(asking), EVALUATIONS)).ledger
    trajectories = 1 + 4 * (STEPS - 1)
    candidates = N * (3 + 2 * (3 + 3 + 2 + 1))  # of the levels 1, then 2 ... 5
    assert ledger.nfe == EVALUATIONS * trajectories + evaluations * candidates
    assert ledger.nfe == EVALUATIONS * tally.counts["denoise"] + tally.counts["denoise_unguided"]
    assert ledger.queries == run(sampler(preview), lattice(2, 3)).ledger.queries


def test_rewards_see_the_pictures_that_the_deterministic_sampler_completes() -> None:
    asking, shown = sampler(completion=STEPS), []
    denoiser, noise = bind(asking), NoiseSource("a lobster", 0, SHAPE)

    def decode(clean: Tensor) -> Tensor:
        shown.append(clean)
        return denoiser.decode_preview(clean)

    run(asking, lattice(2, 1), denoiser=replace(denoiser, decode_preview=decode))
    start = noise.start().unsqueeze(0)
    x = denoiser.kernel.transition(0, start, denoiser.denoise(start, 0)).draw(noise.candidates(N, 0))
    for step in range(1, STEPS):
        x = denoiser.kernel.deterministic().mean(step, x, denoiser.denoise(x, step))
    torch.testing.assert_close(torch.cat(shown)[:N], x, rtol=0, atol=1e-5)


def test_without_guidance_the_unguided_preview_is_the_guided_one() -> None:
    guided, unguided = (run(sampler(kind), lattice(2, 3)) for kind in ("guided", "unguided"))
    assert torch.equal(guided.images, unguided.images)


def test_the_reused_noise_is_that_of_the_candidate_s_own_source() -> None:
    """Seen by a network that always tells the true noise of one picture, every candidate shows that picture moved."""
    problem = Problem(bind(sampler()), oracle(linears(1)), batch=3)
    x0, noise = normal(5, *problem.shape), normal(5, *problem.shape, seed=1)
    alpha = problem.kernel.alphas[2]
    x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise
    asked = torch.ones(5, 1, dtype=torch.bool)
    torch.testing.assert_close(problem.kernel.clean(2, x, noise), x0, rtol=0, atol=1e-5)
    scores, (clean, _) = problem.query_previews(x, 2, asked, "reused", noise)
    torch.testing.assert_close(clean, x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(scores, problem.query(x0, STEPS, asked), rtol=0, atol=1e-4)
    assert problem.ledger.nfe == 0
    with pytest.raises(ValueError, match="needs the noise"):
        problem.preview(x, 2, "reused")
    with pytest.raises(ValueError, match="level 0 has no signal"):
        DDIM((0.0, 0.5, 1.0), 1.0).clean(0, torch.ones(1), torch.ones(1))


def test_reused_noise_steers_each_trajectory_by_its_own_prediction() -> None:
    asking = WeightedSum(num_inference_steps=STEPS, candidates=N, preview="reused")
    for_all = run(asking, lattice(2, 3))
    for k, name in enumerate(for_all.preference_names):
        alone = run(asking, Preferences(("a", "b"), {name: for_all.preferences[k].tolist()}))
        torch.testing.assert_close(alone.images[0], for_all.images[k], rtol=0, atol=1e-5)


# How many candidates at which step.


def test_a_list_of_one_is_the_number_bit_for_bit() -> None:
    samplers = (WeightedSum(num_inference_steps=STEPS, candidates=count) for count in (N, [N]))
    assert torch.equal(*(run(each, lattice(2, 3)).images for each in samplers))


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [([8, 2], [8, 8, 8, 2, 2]), ([6, 4, 2], [6, 6, 4, 4, 2]), ([0, 4], [0, 0, 0, 4, 4]), ([2] * 9, [2] * 5)],
)
def test_a_list_is_spread_over_the_steps(candidates: list[int], expected: list[int]) -> None:
    asking = WeightedSum(num_inference_steps=STEPS, candidates=candidates)
    assert list(asking.settings(()).candidates[:-1]) == expected
    ledger = run(asking, lattice(1, 1)).ledger
    assert ledger.queries == {"a": sum(expected)}


def test_without_search_all_trajectories_take_the_same_step() -> None:
    soup, unsteered = (
        run(WeightedSum(num_inference_steps=STEPS, candidates=[first, 0, 0, 0, 0, 0]), lattice(2, 1))
        for first in (N, 0)
    )
    assert (soup.ledger.total_queries, unsteered.ledger.total_queries) == (2 * N, 0)
    assert torch.equal(unsteered.images[0], unsteered.images[1])
    assert not torch.equal(soup.images[0], soup.images[1])


TOO_FEW = r"candidates is .* compares at least 2, or 0 in a list"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"candidates": count}, TOO_FEW) for count in ([], [1], [4, 1], [-2], 0, 1)),
        ({"candidates": [4, 3], "antithetic": True}, "candidates is 3, odd"),
        ({"completion": 0}, "completion is 0: give at least 1"),
        ({"completion": 2, "preview": "reused"}, "completion is 2, and previews are reused"),
        ({"preview": "blurred"}, "preview is 'blurred': choose one of guided, unguided, reused"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Auto(**options)
