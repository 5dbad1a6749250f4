"""The method that docs/methods.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import BaseModel, Moment
from srsoup_lightning.samplers.rehearsal import count
from tests.samplers.toys import SHAPE, bind, lattice, linears, run

PAGE = Path(__file__).parents[2] / "docs/methods.md"


@pytest.fixture
def halftime(monkeypatch: pytest.MonkeyPatch) -> type:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {"__name__": __name__}
    exec(code, scope)
    return scope["Halftime"]


def test_it_takes_the_trajectory_that_is_best_at_half_time(halftime: type) -> None:
    sampler, moments = halftime(num_inference_steps=6, trajectories=4), list[Moment]()
    soup = run(sampler, lattice(1, 1), on_step=moments.append)
    noise, denoiser = NoiseSource("a lobster", 0, SHAPE), bind(sampler)
    x = torch.stack([noise.start(member) for member in range(4)])
    for step in range(6):
        prediction = denoiser.denoise(x, step)
        if step == 3:
            best = int(linears(1)["a"](denoiser.decode(prediction.x0)).argmax())
            x, prediction = x[best : best + 1], denoiser.denoise(x[best : best + 1], step)
        mean, sigma = denoiser.kernel.transition(step, x, prediction)
        x = mean + sigma * torch.stack([noise.step(step, member) for member in range(len(x))])
    torch.testing.assert_close(soup.images, denoiser.decode(x))
    assert (soup.ledger.queries, soup.ledger.nfe) == ({"a": 4}, 4 * 4 + 2)
    assert count(sampler, lattice(1, 1)).queries == {"a": 4}
    assert [moment.observation is not None for moment in moments] == [False, False, False, True, False, False]


def test_it_has_the_options_of_all_methods_of_one_number(halftime: type) -> None:
    near, far = (
        run(halftime(num_inference_steps=6, scalarisation="ranks", penalty=penalty), lattice(2, 2)).images
        for penalty in (100.0, 0.0)
    )
    unsteered = run(BaseModel(num_inference_steps=6), lattice(2, 2)).images
    assert (near - unsteered).square().sum() < (far - unsteered).square().sum()
