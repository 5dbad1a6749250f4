"""Worth of one step: ways of stepping from the same state, and the report of the rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from benchmarks import one_step
from benchmarks.one_step import finish, walk
from benchmarks.one_step_report import as_markdown, draw
from benchmarks.query_efficiency import append_rows
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import Auto, BaseModel, Problem, WeightedSum
from tests.samplers.toys import SHAPE, bind, lattice, linears, oracle, run

SHORT = {"num_inference_steps": 6}
LEADER = Auto(**SHORT)
OTHERS = {"twin": LEADER, "weighted sum": WeightedSum(**SHORT, candidates=4)}
PREFERENCES = lattice(2, 2)
WEIGHTS = PREFERENCES.weights.roll(1, 0)  # another order than the soup's, which must not matter


def problem(eta: float = 1.0) -> Problem:
    sampler = BaseModel(**SHORT, eta=eta)
    return Problem(bind(sampler), oracle(linears(2)), 64)


def walked(steps: list[int]) -> dict[int, dict[str, torch.Tensor]]:
    noise = NoiseSource("a lobster", 0, SHAPE)
    return dict(walk({"leader": LEADER, **OTHERS}, problem(), WEIGHTS, noise, steps))


def test_the_soup_goes_on_by_the_first_way_whoever_else_is_measured() -> None:
    last = SHORT["num_inference_steps"] - 1
    images = problem().decode(walked([2, last])[last]["leader"])
    torch.testing.assert_close(images, run(LEADER, PREFERENCES).images.roll(1, 0))


def test_every_way_starts_from_the_soup_s_latents_and_has_its_surrogate() -> None:
    found = walked([1, 2, 4])
    assert list(found) == [1, 2, 4]  # a fifth of 6 steps are the selection's
    for moved in found.values():
        assert torch.equal(moved["twin"], moved["leader"])
        others = [moved[name] for name in ("leader", "weighted sum", "unsteered")]
        assert all((one - other).abs().max() > 0.01 for one, other in pairwise(others))


def test_the_way_to_the_pictures_draws_nothing_and_the_last_latents_are_scored_as_they_are() -> None:
    x = walked([2])[2]["leader"]
    assert torch.equal(*(finish(problem(eta=0.0), x, 3) for _ in range(2)))
    asked = problem()
    expected, _ = asked.score(asked.decode(x))
    torch.testing.assert_close(finish(problem(eta=0.0), x, SHORT["num_inference_steps"]), expected)


def rows() -> list[dict[str, float | str]]:
    """Ways gain the step's number, the weighted sum a half less. The last way has no row of the late steps."""
    return [
        {"prompt": prompt, "seed": 0, "step": step, "way": way, "gain": gain, "jpeg": 2 * gain, "clip": -gain}
        for prompt in ("x", "y")
        for way, less, until in (("Auto", 0.0, 20), ("WeightedSum", 0.5, 20), ("new", 0.25, 8))
        for step in (4, 6, 8)
        if step < until
        for gain in (step - less,)
    ]


def test_the_report_has_the_numbers_of_the_rows(tmp_path: Path) -> None:
    lines = as_markdown(rows(), [4, 8, 12], "WeightedSum").splitlines()
    ranges = [f"steps {steps}{column}" for steps in ("4 to 7", "8 to 11") for column in ("", ", difference")]
    assert lines[0] == f"| measure | way | {' | '.join(ranges)} |"
    assert lines[2].startswith("| weighted rewards | Auto | 5.000 (5.000 to 5.000) | 0.500 (0.500 to 0.500) | 8.000")
    assert lines[3].endswith("| 7.500 (7.500 to 7.500) | 0.000 (0.000 to 0.000) |")
    assert lines[4].endswith("| 4.750 (4.750 to 4.750) | 0.250 (0.250 to 0.250) |  |  |")
    assert lines[6].startswith("| jpeg, whatever its weight | WeightedSum | 9.000 (9.000 to 9.000) | 0.000")
    curves = [list(panel.lines[0].get_ydata()) for panel in draw(rows()).axes]
    assert curves == [[4, 6, 8], [8, 12, 16], [-4, -6, -8]]


def test_a_finished_soup_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_step, "load_backbone", lambda *_: None)
    monkeypatch.setattr(one_step, "unsteered_moments", lambda *_: {})
    monkeypatch.setattr(one_step, "measure", lambda *_: pytest.fail("nothing is left to do"))
    append_rows(tmp_path / "rows.jsonl", rows())
    one_step.main(out=tmp_path / "rows.jsonl", prompts=["x", "y"])
