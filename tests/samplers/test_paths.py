"""Search over paths against a search written out for one preference, and its costs."""

from __future__ import annotations

import pytest
import torch

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import SearchOverPaths
from srsoup_lightning.samplers.rehearsal import count
from tests.samplers.test_noise_search import ONE
from tests.samplers.toys import SHAPE, bind, lattice, linears, rehearsed_together, run

OPTIONS = [
    {},
    {"paths": 1, "noises": 2, "start": 0.5, "back": 0.5, "ahead": 0.75},
    {"paths": 3, "noises": 3, "start": 0.89, "back": 0.78, "ahead": 0.81},
]


@pytest.mark.parametrize(
    ("steps", "options", "expected"),
    [
        (20, {}, [(8, 4, 12), (12, 8, 16), (16, 12, 20)]),
        (1, {}, [(1, 0, 1)]),
        (5, OPTIONS[2], [(4, 0, 5)]),
        (4, OPTIONS[1], [(2, 0, 3), (3, 1, 4)]),
        (100, OPTIONS[2], [(89, 11, 92), (92, 14, 95), (95, 17, 98), (98, 20, 100)]),
    ],
)
def test_rounds_go_back_and_further_ahead(steps: int, options: dict, expected: list[tuple[int, int, int]]) -> None:
    assert SearchOverPaths(**options).rounds(steps) == expected


@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("options", OPTIONS)
def test_costs_are_those_of_the_formula(steps: int, options: dict) -> None:
    sampler = SearchOverPaths(num_inference_steps=steps, **options)
    rounds, children = sampler.rounds(steps), sampler.paths * sampler.noises
    made = [each.ahead - each.back for each in rounds]
    more = children * (sum(made[1:]) + len(made) - 1)
    predictions = sampler.paths * rounds[0].here + children * made[0] + more
    ledger = count(sampler, ONE)
    assert (ledger.nfe, ledger.queries) == (2 * predictions, {"a": children * len(made)})
    several = rehearsed_together(sampler, lattice(2, 3))
    assert several.nfe <= 2 * (predictions + 3 * more)
    assert several.queries["a"] <= children * (len(made) + 2 * (len(made) - 1))  # one of the four does not weigh it


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_best_paths_are_kept(eta: float, options: dict) -> None:
    sampler = SearchOverPaths(num_inference_steps=6, eta=eta, **options)
    denoiser, noise, score = bind(sampler), NoiseSource("a lobster", 0, SHAPE), linears(1)["a"]
    kernel, paths = denoiser.kernel, []
    rounds = sampler.rounds(6)
    for member in range(sampler.paths):
        x = noise.start(member)[None]
        for step in range(rounds[0].here):
            x = kernel.mean(step, x, denoiser.denoise(x, step)) + kernel.sigma(step) * noise.step(step, member)
        paths.append(x)
    for number, (here, back, ahead) in enumerate(rounds):
        fresh = noise.normal(sampler.paths * sampler.noises, "renoise", number)
        children = []
        for child in range(len(fresh)):
            kept, gone = kernel.shares(here), kernel.shares(back)
            scale = gone.signal / kept.signal
            x = (
                scale * paths[child // sampler.noises]
                + (gone.noise**2 - (scale * kept.noise) ** 2) ** 0.5 * fresh[child]
            )
            for step in range(back, ahead):
                z = noise.normal(len(fresh), "path", number, step)[child]
                x = kernel.mean(step, x, denoiser.denoise(x, step)) + kernel.sigma(step) * z
            children.append(x)
        clean = [x if ahead == 6 else denoiser.denoise(x, ahead).x0 for x in children]
        scores = torch.cat([score(denoiser.decode(x)) for x in clean])
        paths = [children[k] for k in scores.topk(sampler.paths).indices.sort().values]
    best = children[int(scores.argmax())]
    torch.testing.assert_close(run(sampler, ONE).images, denoiser.decode(best), rtol=0, atol=1e-5)
