"""The comparison of all runs of a log directory, read back."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from srsoup_lightning.callbacks import ParetoLogger, SampleWriter
from srsoup_lightning.callbacks.study import write_study
from srsoup_lightning.pareto import hypervolume
from srsoup_lightning.report.front_figure import draw_fronts_in_box
from srsoup_lightning.report.study import method_number, runs_below
from srsoup_lightning.runs.identity import RunIdentity
from srsoup_lightning.runs.reading import read_run
from tests.callbacks.test_tensorboard import BOX, Events, make_quick, predict
from tests.report.runs import LINE, make_run

CORNERS = {"jpeg": (0.0, 1.0), "clip": (0.0, 2.0)}


def scores(scale: float):
    """Scores on a line from (0.8, 0) to (0, 1.6), times a scale."""
    return lambda prompt, seed, weights: (0.8 * scale * weights[0], 1.6 * scale * weights[1])


def full_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*tfevents*") if path.stat().st_size]


def test_each_run_that_ends_compares_all_that_have_ended(tmp_path: Path) -> None:
    soups = {}
    for number, name in enumerate(("one", "deeper/two", "three"), 1):
        prompts = ["a cat"] if name == "three" else ["a lobster", "a snail"]  # the third compares with none
        callbacks = [SampleWriter(), ParetoLogger(box=BOX, study=str(tmp_path))]
        soups[name] = predict(make_quick(), tmp_path / name, callbacks, prompts)
        assert Events(tmp_path / name / "tensorboard").hparams()["method number"] == 1
        assert (tmp_path / "study").exists() == (number > 1)
        assert len(full_files(tmp_path / "study")) == min(number - 1, 1)
    events = Events(tmp_path / "study")
    assert not events.scalars()
    fronts, cat, snail = (f"all runs/{name}" for name in ("fronts", "pictures of a-lobster-", "pictures of a-snail-"))
    tags = sorted(events.read.Tags()["images"])
    assert [tag.startswith(start) for tag, start in zip(tags, (fronts, cat, snail), strict=True)] == [True] * 3
    (sheet,) = events.images(tags[1]).values()
    for name in ("one", "deeper/two"):
        first = next(soup for soup in soups[name] if (soup.prompt, soup.seed) == ("a lobster", 0))
        for image in first.images:
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy().repeat(16, 0).repeat(16, 1)
            windows = np.lib.stride_tricks.sliding_window_view(sheet, pixels.shape)[:, 6::134, 0]
            assert any(np.array_equal(window, pixels) for window in windows.reshape(-1, *pixels.shape))
    rows = dict(re.findall(r"\| (\S+: WeightedSum) (.*) \|", events.texts()["all runs/results"]))
    assert list(rows) == ["deeper/two: WeightedSum", "one: WeightedSum"]
    red = fmean(float(score) for soup in soups["one"] for score in soup.rewards[:, 0])
    assert float(rows["one: WeightedSum"].split("|")[1]) == pytest.approx(red, rel=1e-3)


def test_fronts_of_all_runs_share_axes_that_show_the_box(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / f"{scale}", scores(scale))) for scale in (1.0, 0.5)]
    (panel,) = draw_fronts_in_box(runs, CORNERS).axes
    for line, scale in zip(panel.lines, (1.0, 0.5), strict=True):
        points = sorted((0.8 * scale * a, 1.6 * scale * b) for a, b in LINE)
        assert np.asarray(sorted(line.get_xydata().tolist())) == pytest.approx(np.array(points))
    for (low, high), (start, end) in ((panel.get_xlim(), CORNERS["jpeg"]), (panel.get_ylim(), CORNERS["clip"])):
        assert low < start < end < high


def test_runs_that_end_at_once_leave_one_file_that_has_them_all(tmp_path: Path) -> None:
    for number in range(4):
        make_run(tmp_path / f"run{number}", scores(1 - number / 10))
    (tmp_path / "study").mkdir()
    for name in ("older", "old"):  # of runs before
        (tmp_path / "study" / f"events.out.tfevents.{name}").write_bytes(b"old" if name == "old" else b"")
    os.utime(tmp_path / "study" / "events.out.tfevents.older", (0, 0))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: write_study(tmp_path, tmp_path / "run0", CORNERS), range(4)))
    assert len(full_files(tmp_path / "study")) == 1
    assert not (tmp_path / "study" / "events.out.tfevents.older").exists()
    text = Events(tmp_path / "study").texts()["all runs/results"]
    for number in range(4):
        share = 1 - number / 10  # of the box, for a line of three points
        points = np.array([[0.8 * a, 0.8 * b] for a, b in LINE]) * share
        volume = hypervolume(torch.tensor(points), torch.zeros(2, dtype=torch.float64))
        (row,) = re.findall(rf"\| run{number} \|(.*)\|", text)
        assert float(row.split("|")[2]) == pytest.approx(volume, rel=1e-3)


def test_groups_of_runs_on_other_prompts_or_rewards_are_told_apart(tmp_path: Path) -> None:
    for name, options in {"a": {}, "b": {"prompts": ["a cow"]}, "c": {"rewards": ["jpeg", "size"]}}.items():
        for number in (1, 2):
            make_run(tmp_path / f"{name}{number}", scores(1 / number), **options)
    make_run(tmp_path / "alone", scores(1), ["a bee"])
    assert write_study(tmp_path, tmp_path / "alone", CORNERS) is None
    assert write_study(tmp_path, tmp_path / "a1", CORNERS) is not None
    events = Events(tmp_path / "study")
    titles = ("1: jpeg and clip, 2 prompts", "2: jpeg and clip, 1 prompt", "3: jpeg and size, 2 prompts")
    assert {f"all runs/fronts {title}" for title in titles} <= set(events.read.Tags()["images"])
    assert set(events.texts()) == {f"all runs/results {title}" for title in titles}


def test_methods_are_numbered_in_the_order_of_their_first_pictures(tmp_path: Path) -> None:
    for age, (name, method) in enumerate((("z", "A"), ("y", "B"), ("x", "A"), ("w", "C"))):
        root = Path(make_run(tmp_path / name, scores(1)))
        facts = {"sampler": {"class": f"methods.{method}"}}
        RunIdentity(facts=facts).write(root / "run.json")
        os.utime(root / "samples" / "0" / "0" / "0.png", (age, age))
    runs = runs_below(tmp_path)
    assert [method_number(method, runs) for method in "ABCD"] == [1, 2, 3, 4]


def test_a_comparison_that_fails_leaves_the_run_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_run(tmp_path / "damaged", scores(1))
    (tmp_path / "damaged" / "samples.jsonl").write_text("{}\n{}\n")
    make_run(tmp_path / "torn", scores(1))
    (tmp_path / "torn" / "samples" / "1" / "1" / "2.png").unlink()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "run.json").write_text(json.dumps({}))
    for name in ("one", "two"):
        predict(make_quick(), tmp_path / name, [SampleWriter(), ParetoLogger(box=BOX)])
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("damaged is left out" in message and "samples.jsonl" in message for message in messages)
    assert any("torn is left out" in message and "2.png" in message for message in messages)
    assert any("study is a run directory: move it" in message for message in messages)
    assert "result/red" in Events(tmp_path / "two" / "tensorboard").scalars()
