"""Event files read back: tags and values against the soups' own numbers."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Mapping
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from time import sleep
from typing import NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from torch import Tensor

from rewards import Reward
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import ParetoLogger, SampleWriter
from srsoup_lightning.oracle import OraclePolicy, RewardError
from srsoup_lightning.pareto import hypervolume
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.naming import prompt_label
from srsoup_lightning.samplers import BFS, Soup, WeightedSum
from tests.conftest import Broken, Channel, MixtureBackbone, make_module, quiet_trainer
from tests.processes import start

BOX = {"red": (-0.5, 1.0), "blue": (-0.5, 1.5)}
PROMPTS = ["a lobster", "a snail"]


def predict(
    module: SRSoupModule,
    root: Path,
    callbacks: list[L.Callback],
    prompts: list[str] = PROMPTS,
    loggers: Logger | list[Logger] | bool | None = None,
    **options: object,
) -> list[Soup]:
    logger = TensorBoardLogger(root, "tensorboard", "") if loggers is None else loggers
    trainer = quiet_trainer(logger=logger, default_root_dir=root, callbacks=callbacks, **options)
    return trainer.predict(module, PromptDataModule(prompts, [0, 1]))


class Events:
    """Contents of a folder of event files."""

    def __init__(self, folder: Path) -> None:
        assert list(folder.glob("events.out.tfevents.*"))
        self.read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()

    def scalars(self) -> dict[str, dict[int, float]]:
        """Tag -> step -> value; no step twice, and in order."""
        found = {}
        for tag in self.read.Tags()["scalars"]:
            events = self.read.Scalars(tag)
            found[tag] = {event.step: event.value for event in events}
            assert list(found[tag]) == sorted(event.step for event in events)
        return found

    def images(self, tag: str) -> dict[int, np.ndarray]:
        events = self.read.Images(tag)
        assert len({event.step for event in events}) == len(events)
        opened = {event.step: Image.open(io.BytesIO(event.encoded_image_string)) for event in events}
        return {step: np.asarray(image.convert("RGB")) for step, image in opened.items()}

    def hparams(self) -> dict[str, float | str]:
        content = self.read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        values = metadata.parse_session_start_info_plugin_data(content).hparams
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


class Logged(NamedTuple):
    """A finished run, its soups, and the closeness of the trajectories at each of its steps."""

    root: Path
    board: Path
    soups: list[Soup]
    closeness: list[Tensor | None]


def make_patient() -> SRSoupModule:
    """A module whose blue reward, the mean of all channels, can be made to fail."""
    return make_module({"red": Channel(0), "blue": Broken(after=10_000)})


def make_quick(oracle: OraclePolicy = OraclePolicy(), **rewards: Reward) -> SRSoupModule:
    """A module whose soups take two steps."""
    rewards = rewards or {"red": Channel(0), "blue": Channel(2)}
    sampler, preferences = WeightedSum(num_inference_steps=2, candidates=2), Preferences.lattice(list(rewards), 1)
    return SRSoupModule(MixtureBackbone(), rewards, sampler, preferences, oracle=oracle)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A run of four soups with all that can be logged."""
    root, module, closeness = tmp_path_factory.mktemp("run"), make_patient(), []
    module.step_callbacks.append(lambda m: closeness.append(m.observation and m.observation.closeness.clone()))
    soups = predict(module, root, [SampleWriter(), ParetoLogger(box=BOX)])
    assert len(module.step_callbacks) == 1
    return Logged(root, root / "tensorboard", soups, closeness)


COSTS = {
    **{f"queries of {name}": lambda ledger, name=name: ledger.queries[name] for name in ("red", "blue")},
    "network evaluations": attrgetter("nfe"),
    **{name: attrgetter(name) for name in ("decodes", "seconds")},
}


def check_costs(folder: Path, soups: list[Soup]) -> None:
    """Check that the costs so far are the sums of the ledgers, soup by soup."""
    for name, values in (scalars := Events(folder).scalars()).items():
        costs = accumulate(COSTS[name.removeprefix("cost so far/")](soup.ledger) for soup in soups)
        assert values == pytest.approx(dict(enumerate(costs, 1)), rel=1e-5)
    assert len(scalars) == len(COSTS)


def test_costs_add_up_soup_by_soup_and_a_sheet_shows_every_picture_of_a_soup(original: Logged) -> None:
    check_costs(original.board, original.soups)
    sheets = Events(original.board).images("pictures")
    assert list(sheets) == [1, 2, 3, 4]
    for soup, sheet in zip(original.soups, sheets.values(), strict=True):
        assert sheet.shape[1] == 3 * 128 + 4 * 6  # six pictures, three in a row
        for image in soup.images:
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy().repeat(16, 0).repeat(16, 1)
            windows = np.lib.stride_tricks.sliding_window_view(sheet, pixels.shape)[:, 6::134, 0]
            assert any(np.array_equal(window, pixels) for window in windows.reshape(-1, *pixels.shape))


def test_the_measures_of_particles_are_curves_by_preference_with_the_units_of_the_rewards(tmp_path: Path) -> None:
    rewards, moments = {"red": Channel(0), "blue": Channel(2)}, []
    points = Preferences.lattice(["red"], 1, held_out=["blue"])
    module = SRSoupModule(MixtureBackbone(), rewards, BFS(num_inference_steps=4, particles=3, scorings=2), points)
    module.step_callbacks.append(moments.append)
    predict(module, tmp_path, [ParetoLogger(curves=0)])
    (curves,) = (tmp_path / "tensorboard" / "denoising").iterdir()
    logged = Events(curves).scalars()
    assert not [tag for tag in logged if "blue" in tag and "queries" not in tag]
    for measure in ("best value", "effective sample size", "surviving lineages"):
        soups = [moments[first : first + 4] for first in range(0, len(moments), 4)]
        for step in (2, 4):
            found = [float(soup[step - 1].observation.values[measure]) for soup in soups]
            assert logged[f"{measure}/red1"][step] == pytest.approx(fmean(found), rel=1e-5)
    assert set(logged["units/unit of red"]) == {2, 4}


@pytest.mark.parametrize(("sheets", "steps"), [(0, []), (1, [1]), (2, [1, 3]), (3, [1, 3]), (4, [1, 2, 3, 4])])
def test_sheets_are_spread_over_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sheets: int, steps: list[int]
) -> None:
    monkeypatch.setattr("srsoup_lightning.callbacks.tensorboard.log_front", lambda *_: None)
    predict(make_quick(), tmp_path, [ParetoLogger(sheets, curves=0)])
    events = Events(tmp_path / "tensorboard")
    assert events.read.Tags()["images"] == (["pictures"] if steps else [])
    assert list(events.images("pictures") if steps else []) == steps
    assert [path.name for path in (tmp_path / "tensorboard" / "denoising").iterdir()] == ["mean from soup 1 on"]


class Noted(Channel):
    """A reward that keeps its answers."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.answers = [*getattr(self, "answers", []), super().score(images, prompts)]
        return self.answers[-1]


def test_curves_are_of_what_rewards_answered_at_each_step(tmp_path: Path) -> None:
    rewards = {"red": Noted(0), "blue": Noted(2)}
    preferences = Preferences(["red", "blue"], {"left": [1, 0], "middle": [0.5, 0.5], "right": [0, 1]})
    sampler = WeightedSum(num_inference_steps=4, candidates=5)
    module = SRSoupModule(MixtureBackbone(), rewards, sampler, preferences)
    told: list[tuple[int, int, int]] = []
    module.step_callbacks.append(lambda m: told.append((m.step, m.ledger.nfe, m.ledger.queries["red"])))
    predict(module, tmp_path, [ParetoLogger(curves=3)])
    folders = [Path(prompt_label(prompt), str(seed)) for prompt in PROMPTS for seed in (0, 1)]
    found = [Events(tmp_path / "tensorboard" / "denoising" / folder).scalars() for folder in folders[:3]]
    assert not (tmp_path / "tensorboard" / "denoising" / folders[3]).exists()
    expected = [_expected_curves(rewards, soup) for soup in range(4)]
    for curves, values, costs in zip(found, expected, (told[:4], told[4:8], told[8:12]), strict=False):
        assert {tag: curves[tag] for tag in values} == {tag: pytest.approx(each) for tag, each in values.items()}
        assert {tag for tag in curves if "candidates" in tag} == set(values)
        assert curves["cost of the soup/network evaluations"] == {step: nfe for step, nfe, _ in costs}
        assert curves["cost of the soup/queries of red"] == {step: queries for step, _, queries in costs}
    mean = Events(tmp_path / "tensorboard" / "denoising" / "mean from soup 1 on").scalars()
    for tag, values in expected[0].items():
        assert mean[tag] == {step: pytest.approx(fmean(soup[tag][step] for soup in expected)) for step in values}


def _expected_curves(rewards: Mapping[str, Noted], soup: int) -> dict[str, dict[int, float]]:
    """Two trajectories ask each reward for five candidates in each step but the last; the first step's are common."""
    curves = {}
    for name, trajectories in (("red", ("left", "middle")), ("blue", ("middle", "right"))):
        answers = rewards[name].answers[4 * soup :][:3]  # of three steps; the final pictures come after them
        for index, preference in enumerate(trajectories):
            own = [answer if len(answer) == 5 else answer[5 * index :][:5] for answer in answers]
            curves[f"{name} of candidates/{preference}"] = {step: float(a.mean()) for step, a in enumerate(own, 1)}
    return curves


def test_closeness_falls_from_one_between_lowest_and_highest(original: Logged) -> None:
    curves = Events(original.board / "denoising" / prompt_label(PROMPTS[0]) / "0").scalars()
    for step, near in enumerate(original.closeness[:5], 1):
        pairs = [float(near[p, q]) for p in range(6) for q in range(p)]
        for tag, value in (("mean of all pairs", fmean(pairs)), ("lowest", min(pairs)), ("highest", max(pairs))):
            assert curves[f"closeness/{tag}"][step] == pytest.approx(value, rel=1e-5)
    assert list(lowest := curves["closeness/lowest"]) == [1, 2, 3, 4, 5]  # the sixth step has no noise to search
    assert lowest[1] == 1 > lowest[5]


def test_hparams_hold_weights_settings_and_mean_rewards(original: Logged) -> None:
    soups, folder = original.soups, original.board / "front"
    scaled = [(soup.rewards.double() + 0.5) / torch.tensor([1.5, 2.0]) for soup in soups]
    volume = fmean(hypervolume(points, torch.zeros(2, dtype=torch.float64)) for points in scaled)
    for p, name in enumerate(soups[0].preference_names):
        events = Events(folder / name)
        red, blue = (fmean(float(soup.rewards[p, j]) for soup in soups) for j in (0, 1))
        weights = soups[0].preferences[p].tolist()
        assert {tag: dict(values) for tag, values in events.scalars().items()} == {
            "reward/red": {4: pytest.approx(red)},
            "reward/blue": {4: pytest.approx(blue)},
            "utility": {4: pytest.approx(weights[0] * (red + 0.5) / 1.5 + weights[1] * (blue + 0.5) / 2)},
            "hypervolume": {4: pytest.approx(volume)},
            "cost a soup/queries": {4: fmean(soup.ledger.total_queries for soup in soups)},
            "cost a soup/network evaluations": {4: fmean(soup.ledger.nfe for soup in soups)},
        }
        hparams = events.hparams()
        assert (hparams["weight/red"], hparams["weight/blue"]) == pytest.approx(tuple(weights), abs=1e-6)
        options = {"sharing": "FixedSoup(start=0, end=3)", "candidates": 4, "num_inference_steps": 6}
        expected = {"method": "SRSoup FixedSoup"} | {f"with/{name}": value for name, value in options.items()}
        assert hparams | expected == hparams
        assert "with/antithetic" not in hparams
    assert len(list(folder.glob("*/events*"))) == 6
    assert Events(folder).images("front")[4].shape[2] == 3


def test_the_layout_finds_its_tags(original: Logged) -> None:
    folder = original.board
    layout = layout_pb2.Layout()
    layout.ParseFromString(Events(folder).read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    tags = {
        "by soups done": set(Events(folder).scalars()),
        "by denoising step": set(Events(folder / "denoising" / "mean from soup 1 on").scalars()),
    }
    assert [category.title for category in layout.category] == ["by denoising step", "by soups done"]
    for category in layout.category:
        for chart in category.chart:
            for pattern in chart.multiline.tag:
                assert any(re.match(pattern, tag) for tag in tags[category.title]), pattern
            for band in chart.margin.series:
                assert {band.value, band.lower, band.upper} <= tags[category.title]
    (red, blue, closeness), _ = (list(category.chart) for category in layout.category)
    assert [red.title, blue.title, closeness.title] == ["red of candidates", "blue of candidates", "closeness"]
    assert sum(bool(re.match(red.multiline.tag[0], tag)) for tag in tags["by denoising step"]) == 5


def test_a_resumed_run_counts_on(original: Logged, tmp_path: Path) -> None:
    # Six steps query five times (the last has no noise) and the final pictures once: two soups pass.
    module = make_patient()
    module.oracle.rewards["blue"].after = 12
    with pytest.raises(RewardError):
        predict(module, tmp_path, [SampleWriter(), ParetoLogger(box=BOX)])
    assert not module.step_callbacks
    folder, complete = tmp_path / "tensorboard", Events(original.board).scalars()
    assert not (folder / "front").exists()
    for _ in range(2):  # the second time there is nothing more to make
        sleep(1.1)  # event files are read by the second of their making, and within one by a counter that sorts as text
        predict(make_patient(), tmp_path, [SampleWriter(), ParetoLogger(box=BOX)])
        scalars = Events(folder).scalars()
        for tag in set(complete) - {"cost so far/seconds"}:
            assert scalars[tag] == complete[tag]
        assert list(scalars["cost so far/seconds"]) == [1, 2, 3, 4]
        assert list(Events(folder).images("pictures")) == [1, 2, 3, 4]
        assert list(Events(folder / "front").images("front")) == [4]
        red = fmean(float(soup.rewards[0, 0]) for soup in original.soups)
        assert Events(folder / "front" / "red1-blue0").scalars()["reward/red"] == {4: pytest.approx(red)}
        for name in (f"{prompt_label(PROMPTS[0])}/0", "mean from soup 3 on", f"{prompt_label(PROMPTS[1])}/0"):
            curve = Events(folder / "denoising" / name).scalars()["red of candidates/red1-blue0"]
            assert list(curve) == [1, 2, 3, 4, 5]


def test_a_soup_made_again_counts_once_and_overwriting_leaves_no_old_chart(original: Logged, tmp_path: Path) -> None:
    root = shutil.copytree(original.root, tmp_path / "copy")
    *_, row = RunDirectory(root).image_rows()
    (root / row.image).unlink()
    predict(make_patient(), root, [SampleWriter(), ParetoLogger(box=BOX)])
    assert [list(values) for values in Events(root / "tensorboard").scalars().values()] == [[1, 2, 3, 4]] * 5
    soups = predict(make_quick(), root, [SampleWriter(overwrite=True), ParetoLogger()], ["a cow"])
    check_costs(root / "tensorboard", soups)
    assert not (root / "tensorboard" / "denoising" / prompt_label(PROMPTS[0])).exists()


def test_soups_of_other_processes_count_in_the_end(tmp_path: Path) -> None:
    (other,) = predict(make_quick(), tmp_path / "other", [], ["a cow"], loggers=False)[:1]
    callback = L.Callback()
    callback.on_predict_end = lambda *_: RunDirectory(tmp_path, rank=1).write(other)
    ours = predict(make_quick(), tmp_path, [SampleWriter(), callback, ParetoLogger()])
    check_costs(tmp_path / "tensorboard", [*ours, other])
    reds = Events(tmp_path / "tensorboard" / "front" / "red1-blue0").scalars()["reward/red"]
    assert reds == {5: pytest.approx(fmean(float(soup.rewards[0, 0]) for soup in [*ours, other]))}


def make_in_two_processes(arguments: list[str]) -> None:
    callbacks = [SampleWriter(), ParetoLogger(box=BOX)]
    predict(make_patient(), Path(*arguments), callbacks, devices=2, strategy="ddp_fork")


@pytest.mark.slow
def test_of_two_processes_the_first_logs(original: Logged, tmp_path: Path) -> None:
    process = start([str(tmp_path)], make_in_two_processes)
    process.join()
    assert process.exitcode == 0
    boards = (original.board, tmp_path / "tensorboard")
    one, two = (Events(board).scalars()["cost so far/network evaluations"] for board in boards)
    assert two == {step: one[step] for step in (1, 2, 4)}  # two of its own, and all in the end
    one, two = (Events(board / "front" / "red1-blue0").scalars()["reward/red"] for board in boards)
    assert two == one
    assert len(list((tmp_path / "tensorboard").glob("events*"))) == 1


def test_failures_are_counted_and_the_worst_stands_in(tmp_path: Path) -> None:
    class Patchy(Reward):
        def score(self, images: Tensor, prompts: list[str]) -> Tensor:
            scores = images[:, 2].mean((1, 2))
            return torch.where(scores == scores.max(), torch.nan, scores) if len(images) > 1 else scores

    module = make_quick(OraclePolicy("worst"), red=Channel(0), blue=Patchy())
    soups = predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    scalars = Events(tmp_path / "tensorboard").scalars()
    failures = sum(soup.ledger.failures["blue"] for soup in soups)
    assert scalars["cost so far/failures of blue"][4] == failures > 0
    assert "cost so far/failures of red" not in scalars
    for values in Events(tmp_path / "tensorboard" / "denoising" / "mean from soup 1 on").scalars().values():
        assert np.isfinite(list(values.values())).all()
    blue = fmean(float(soup.rewards[1, 1]) for soup in soups)
    assert Events(tmp_path / "tensorboard" / "front" / "red0-blue1").scalars()["reward/blue"][4] == pytest.approx(blue)


@pytest.mark.parametrize("csv", [False, True])
def test_without_tensorboard_among_the_loggers_nothing_happens(tmp_path: Path, csv: bool) -> None:
    module, counts = make_quick(), set()
    module.step_callbacks.append(lambda _: counts.add(len(module.step_callbacks)))
    predict(module, tmp_path, [SampleWriter(), ParetoLogger()], loggers=csv and CSVLogger(tmp_path, "csv"))
    assert counts == {2}  # this one, and the one of the writer
    assert not list(tmp_path.rglob("events*"))


def test_one_callback_serves_runs_one_after_another_wherever_tensorboard_is_among_the_loggers(tmp_path: Path) -> None:
    callback, module = ParetoLogger(), make_quick()
    check_costs(tmp_path / "first" / "tensorboard", predict(module, tmp_path / "first", [callback]))
    board = TensorBoardLogger(tmp_path / "mine", "soups", version=3)
    soups = predict(module, tmp_path, [callback], loggers=[CSVLogger(tmp_path, "csv"), board])
    check_costs(tmp_path / "mine" / "soups" / "version_3", soups)
    assert len(list((tmp_path / "mine").rglob("front/*/events*"))) == 2


def test_figure_and_measures_of_fronts_are_left_out_without_matplotlib_box_or_a_second_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soups = predict(make_quick(red=Channel(0)), tmp_path / "one", [ParetoLogger(box={"red": (0.0, 1.0)})])
    folder = tmp_path / "one" / "tensorboard" / "front"
    assert not Events(folder).read.Tags()["images"]
    red = fmean(float(soup.rewards[0, 0]) for soup in soups)
    assert Events(folder / "red1").scalars()["utility"][4] == pytest.approx(red)
    monkeypatch.setattr("srsoup_lightning.callbacks.event_files.find_spec", lambda name: None)
    predict(make_quick(), tmp_path, [ParetoLogger()])
    (record,) = (record for record in caplog.records if "matplotlib" in record.message)
    assert "pip install 'srsoup-lightning[report]'" in record.message
    folders = [path.parent for path in (tmp_path / "tensorboard" / "front").glob("*/events*")]
    assert len(folders) == 2
    for folder in folders:  # in units of its own extremes, a run would compare with no other
        assert not {"utility", "hypervolume"} & set(Events(folder).scalars())


def test_options_that_cannot_be_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    for options in ({"sheets": -1}, {"curves": -2}):
        with pytest.raises(ValueError, match=r"is -\d: give 0 or more"):
            ParetoLogger(**options)
    with pytest.raises(ValueError, match="box leaves out"):
        predict(make_quick(), tmp_path, [ParetoLogger(box={"red": (0.0, 1.0)})])
    assert not list(tmp_path.rglob("front"))
