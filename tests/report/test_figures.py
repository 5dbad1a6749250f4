"""Figures: bands, styles and legends, and the time that they take."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
from matplotlib.figure import Figure

from srsoup_lightning.cli.compare import compare
from srsoup_lightning.report.figure_style import legend, style
from srsoup_lightning.report.front_figure import _band, draw_fronts_in_box
from srsoup_lightning.runs.reading import read_runs
from tests.report.runs import Weights, make_run


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_a_band_is_the_hull_of_its_ellipses_in_any_unit(unit: float) -> None:
    low = np.array([[0.0, 0.0], [4.0, 4.0], [4.0, 0.0]])
    path = _band(low * [1, unit], (low + 1) * [1, unit], "black").get_path()
    inside = np.array([(0.5, 0.02), (0.98, 0.5), (2.5, 2.5), (2.9, 2.3), (4.5, 2.5), (4.98, 0.5), (4.5, 4.98)])
    outside = np.array(
        [(0.1, 0.1), (4.9, 4.9), (3.2, 2.0), (2.0, 3.2), (2.5, 0.5), (5.1, 2.5), (-0.1, 0.5), (4.5, 5.1)]
    )
    assert path.contains_points(inside * [1, unit]).all()
    assert not path.contains_points(outside * [1, unit]).any()


def test_the_first_runs_differ_in_colour_and_in_marker() -> None:
    for key in ("color", "marker"):
        assert len({style(number)[key] for number in range(7)}) == 7
    assert len({tuple(style(number).values()) for number in range(50)}) == 50


@pytest.mark.parametrize("names", [["a"], ["ours, sixteen candidates"] * 5, ["x" * 90, "a run " * 20]])
def test_a_legend_keeps_to_its_figure(names: list[str]) -> None:
    figure = Figure(figsize=(5.7, 4.4), layout="constrained")
    figure.subplots()
    legend(figure, names)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


@pytest.mark.slow
def test_four_runs_of_two_hundred_pictures_take_no_minute(tmp_path: Path) -> None:
    """Processor time, which other work on the machine doesn't stretch: 30 s on two cores."""
    prompts, preferences = [str(number) for number in range(10)], [(k / 9, 1 - k / 9) for k in range(10)]
    runs = [
        make_run(
            tmp_path / str(strength), lambda _, seed, weights, k=strength: [k * weight + seed for weight in weights],
            prompts, preferences=preferences, size=(512, 512),
        )
        for strength in (1, 2, 3, 4)
    ]  # fmt: skip
    start = process_time()
    compare(runs, str(tmp_path / "out"))
    assert process_time() - start < 60


def test_a_run_alone_is_drawn_in_own_units_and_preferences_that_move_nothing_are_one_cross(
    tmp_path: Path,
) -> None:
    def tiny(prompt: str, seed: int, weights: Weights) -> list[float]:
        return [1e-5 * weights[0] + len(prompt), 200 * weights[1] + seed]

    one = make_run(tmp_path / "tiny", tiny, prompts=["ab", "abcd"])
    other = make_run(tmp_path / "same", lambda prompt, seed, weights: [len(prompt) + seed, seed])
    ((panel,), (same,)) = (draw_fronts_in_box([run], None).axes for run in read_runs([one, other]))
    line = panel.lines[0].get_xydata()
    np.testing.assert_allclose(line, [[3, 200.5], [3 + 5e-6, 100.5], [3 + 1e-5, 0.5]], rtol=1e-9)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("jpeg", "clip")
    assert [len(line.get_xydata()) for line in same.lines if line.get_marker() == style(0)["marker"]] == [1]
