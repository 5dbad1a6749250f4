"""Event files read back: tags and values against the soups' own numbers."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Mapping
from functools import partial
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import NamedTuple
from unittest.mock import ANY

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
from srsoup_lightning.samplers import BFS, BestOfN, Soup, WeightedSum
from tests.conftest import Broken, Channel, MixtureBackbone, make_module, quiet_trainer
from tests.processes import start

charts = partial(ParetoLogger, study=False)
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

    def texts(self) -> dict[str, str]:
        tags = [tag for tag in self.read.Tags()["tensors"] if tag.endswith("/text_summary")]
        found = {tag: self.read.Tensors(tag) for tag in tags}
        assert all(len(events) == 1 for events in found.values())
        return {
            tag.removesuffix("/text_summary"): events[0].tensor_proto.string_val[0].decode()
            for tag, events in found.items()
        }

    def metric_tags(self) -> list[str]:
        """Tags of the metrics of HParams."""
        content = self.read.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
        return [info.name.tag for info in metadata.parse_experiment_plugin_data(content).metric_infos]

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
    soups = predict(module, root, [SampleWriter(), charts(box=BOX)])
    assert len(module.step_callbacks) == 1
    return Logged(root, root / "tensorboard", soups, closeness)


COSTS = {
    "queries": attrgetter("total_queries"),
    **{f"queries of {name}": lambda ledger, name=name: ledger.queries[name] for name in ("red", "blue")},
    "network evaluations": attrgetter("nfe"),
    **{name: attrgetter(name) for name in ("decodes", "seconds")},
}


def check_costs(folder: Path, soups: list[Soup]) -> None:
    """Check that the costs so far are the sums of the ledgers, soup by soup."""
    scalars = Events(folder).scalars()
    for name, cost in COSTS.items():
        costs = accumulate(cost(soup.ledger) for soup in soups)
        assert scalars[f"cost so far/{name}"] == pytest.approx(dict(enumerate(costs, 1)), rel=1e-5)
    assert sum("cost so far" in tag for tag in scalars) == len(COSTS)


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
    predict(module, tmp_path, [charts()])
    logged = Events(tmp_path / "tensorboard").scalars()
    assert not [tag for tag in logged if "blue" in tag and "queries" not in tag and "result" not in tag]
    for measure in ("best value", "effective sample size", "surviving lineages"):
        soups = [moments[first : first + 4] for first in range(0, len(moments), 4)]
        for step in (2, 4):
            found = [float(soup[step - 1].observation.values[measure]) for soup in soups]
            assert logged[f"{measure}/red1"][step] == pytest.approx(fmean(found), rel=1e-5)
            assert logged[f"denoising/{measure}"][step] == pytest.approx(fmean(found), rel=1e-5)
    assert set(logged["units/unit of red"]) == {2, 4}


@pytest.mark.parametrize(("sheets", "steps"), [(0, []), (1, [1]), (2, [1, 3]), (3, [1, 3]), (4, [1, 2, 3, 4])])
def test_sheets_are_spread_over_the_run(tmp_path: Path, sheets: int, steps: list[int]) -> None:
    predict(make_quick(red=Channel(0)), tmp_path, [charts(sheets)])
    events = Events(tmp_path / "tensorboard")
    assert events.read.Tags()["images"] == (["pictures"] if steps else [])
    assert list(events.images("pictures") if steps else []) == steps


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
    live: list[dict[str, dict[int, float]]] = []
    module.step_callbacks.append(lambda m: live.append(Events(tmp_path / "tensorboard").scalars()))
    predict(module, tmp_path, [charts()])
    curves = Events(tmp_path / "tensorboard").scalars()
    expected = [_expected_curves(rewards, soup) for soup in range(4)]
    assert {tag for tag in curves if "candidates/" in tag} == set(expected[0])
    for tag, values in expected[0].items():
        assert live[3][tag] == pytest.approx(values)  # the first soup, step by step
        assert live[8][tag] == {step: pytest.approx(fmean(soup[tag][step] for soup in expected[:2])) for step in values}
        assert curves[tag] == {step: pytest.approx(fmean(soup[tag][step] for soup in expected)) for step in values}
    for reward, trajectories in (("red", ("left", "middle")), ("blue", ("middle", "right"))):
        of_each = [curves[f"{reward} of candidates/{name}"] for name in trajectories]
        expected_means = {step: pytest.approx(fmean(each[step] for each in of_each)) for step in (1, 2, 3)}
        assert curves[f"denoising/{reward} of candidates"] == expected_means
    for number, tag in ((1, "network evaluations"), (2, "queries of red")):
        means = {step: fmean(cost[number] for cost in told if cost[0] == step) for step in (1, 2, 3, 4)}
        assert curves[f"cost of the soup/{tag}"] == pytest.approx(means)


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
    curves = Events(original.board).scalars()
    for step in range(1, 6):
        pairs = [
            [float(near[p, q]) for p in range(6) for q in range(p)]
            for near in original.closeness[step - 1 :: 6]  # of each of the four soups
        ]
        for tag, value in (("mean of all pairs", fmean), ("lowest", min), ("highest", max)):
            assert curves[f"closeness/{tag}"][step] == pytest.approx(fmean(map(value, pairs)), rel=1e-5)
    assert list(lowest := curves["closeness/lowest"]) == [1, 2, 3, 4, 5]  # the sixth step has no noise to search
    assert lowest[1] == 1 > lowest[5]


def test_hparams_hold_settings_and_results_with_the_same_keys_for_every_method(
    original: Logged, tmp_path: Path
) -> None:
    soups = original.soups
    rewards = torch.stack([soup.rewards.double() for soup in soups])  # (4, 6, 2)
    shares = (rewards + 0.5) / torch.tensor([1.5, 2.0])
    weights = soups[0].preferences.double()
    expected = {
        **{name: float(rewards[..., j].mean()) for j, name in enumerate(("red", "blue"))},
        "hypervolume": fmean(hypervolume(points, torch.zeros(2, dtype=torch.float64)) for points in shares),
        "utility": float((shares.mean(0) * weights).sum(1).mean()),
        "queries": fmean(soup.ledger.total_queries for soup in soups),
        "network evaluations": fmean(soup.ledger.nfe for soup in soups),
        "seconds": fmean(soup.ledger.seconds for soup in soups),
        **{f"best {name}": float(rewards[..., j].mean(0).max()) for j, name in enumerate(("red", "blue"))},
    }
    events = Events(original.board)
    scalars = events.scalars()
    found = {tag.removeprefix("result/"): at[4] for tag, at in scalars.items() if "result/" in tag}
    assert found == pytest.approx(expected)
    assert events.hparams() == {
        "method": "SRSoup (FixedSoup)",
        "method number": 1,
        "guidance": 5,
        "model": "MixtureBackbone",
        "steps": 6,
        "with options": "candidates 4, sharing FixedSoup(end 3)",
    }
    other = make_quick()
    other.sampler = BestOfN(num_inference_steps=2, pool=3, units={"red": (0, 1), "blue": (0, 1)})
    predict(other, tmp_path, [charts()])  # without a box
    others = Events(tmp_path / "tensorboard")
    assert others.hparams().keys() == events.hparams().keys()
    assert others.hparams()["with options"] == "pool 3"
    assert others.metric_tags() == events.metric_tags() == [f"result/{name}" for name in expected]
    assert expected.keys() - {tag.removeprefix("result/") for tag in others.scalars()} == {"hypervolume", "utility"}


def curve_of(places: list[int], means: Tensor) -> dict[int, float]:
    return dict(sorted(zip(places, means[:, 1].tolist(), strict=True)))


def test_the_front_is_a_figure_and_curves_along_the_box_and_the_weights(original: Logged) -> None:
    events = Events(original.board)
    assert events.images("front")[4].shape[2] == 3
    means = torch.stack([soup.rewards.double() for soup in original.soups]).mean(0)
    places = (1000 * (means[:, 0] + 0.5) / 1.5).round().int().tolist()
    scalars = events.scalars()
    assert scalars["trade-off/blue against red"] == pytest.approx(curve_of(places, means))
    percents = (100 * original.soups[0].preferences[:, 1]).round().int().tolist()
    assert scalars["by weight/blue"] == pytest.approx(curve_of(percents, means))


def test_texts_are_the_config_the_rewards_and_the_costs(original: Logged) -> None:
    texts = Events(original.board).texts()
    assert '"sampler"' in texts["config"]  # run.json, where no command line has written config.yaml
    red = fmean(float(soup.rewards[0, 0]) for soup in original.soups)
    assert f"| red 1, blue 0 | {red:,.4g} |" in texts["rewards"]
    queries = sum(soup.ledger.total_queries for soup in original.soups)
    assert f"| queries | {queries:,} | {queries / 4:,.0f} |" in texts["costs"]


def test_the_layout_finds_its_tags(original: Logged) -> None:
    events = Events(original.board)
    layout, tags = layout_pb2.Layout(), events.scalars()
    layout.ParseFromString(events.read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    shown = {chart.title: chart for category in layout.category for chart in category.chart}
    assert len(shown) == sum(len(category.chart) for category in layout.category) == 13
    assert not shown.pop("best value of a preference").margin.series  # of other methods
    for title, chart in shown.items():
        lines = 5 if title in ("red of candidates", "blue of candidates") else 1
        for pattern in chart.multiline.tag:
            assert len([tag for tag in tags if re.match(pattern, tag)]) == lines
        for band in chart.margin.series:
            assert {band.value, band.lower, band.upper} <= set(tags)


def test_a_resumed_run_counts_on(original: Logged, tmp_path: Path) -> None:
    # Six steps query five times (the last has no noise) and the final pictures once: two soups pass.
    module = make_patient()
    module.oracle.rewards["blue"].after = 12
    with pytest.raises(RewardError):
        predict(module, tmp_path, [SampleWriter(), charts(box=BOX)])
    assert not module.step_callbacks
    folder, complete = tmp_path / "tensorboard", Events(original.board).scalars()
    assert Events(folder).scalars()["red of candidates/red1-blue0"].keys() == {1, 2, 3, 4, 5}  # of two soups
    with (folder / "curves.jsonl").open("a") as table:
        table.write('{"prompt": "torn by a cra')
    for _ in range(2):  # the second time there is nothing more to make
        predict(make_patient(), tmp_path, [SampleWriter(), charts(box=BOX)])
        scalars = Events(folder).scalars()
        assert scalars.keys() == complete.keys()
        for tag in complete:
            known = pytest.approx(complete[tag]) if "seconds" not in tag else dict.fromkeys(complete[tag], ANY)
            assert scalars[tag] == known
        assert list(Events(folder).images("pictures")) == [1, 2, 3, 4]
        assert list(Events(folder).images("front")) == [4]
        assert sum(path.stat().st_size > 0 for path in folder.glob("*.srsoup")) == 1
    same = [Events(board).images("pictures") for board in (folder, original.board)]
    assert all(np.array_equal(same[0][step], same[1][step]) for step in (1, 2, 3, 4))  # drawn from files, or from soups


def test_a_soup_made_again_counts_once_and_overwriting_leaves_no_old_chart(original: Logged, tmp_path: Path) -> None:
    root = shutil.copytree(original.root, tmp_path / "copy")
    *_, row = RunDirectory(root).image_rows()
    (root / row.image).unlink()
    predict(make_patient(), root, [SampleWriter(), charts(box=BOX)])
    scalars, complete = (Events(folder).scalars() for folder in (root / "tensorboard", original.board))
    assert list(scalars["cost so far/queries"]) == [1, 2, 3, 4]
    assert scalars["red of candidates/red1-blue0"] == pytest.approx(complete["red of candidates/red1-blue0"])
    soups = predict(make_quick(), root, [SampleWriter(overwrite=True), charts()], ["a cow"])
    check_costs(root / "tensorboard", soups)
    assert list(Events(root / "tensorboard").images("pictures")) == [1, 2]


def test_soups_of_other_processes_count_in_the_end(tmp_path: Path) -> None:
    (other,) = predict(make_quick(), tmp_path / "other", [], ["a cow"], loggers=False)[:1]
    callback = L.Callback()
    callback.on_predict_end = lambda *_: RunDirectory(tmp_path, rank=1).write(other)
    ours = predict(make_quick(), tmp_path, [SampleWriter(), callback, charts()])
    check_costs(tmp_path / "tensorboard", [*ours, other])
    reds = Events(tmp_path / "tensorboard").scalars()["by weight/red"]
    assert reds[100] == pytest.approx(fmean(float(soup.rewards[0, 0]) for soup in [*ours, other]))


def make_in_two_processes(arguments: list[str]) -> None:
    callbacks = [SampleWriter(), charts(box=BOX)]
    predict(make_patient(), Path(*arguments), callbacks, devices=2, strategy="ddp_fork")


@pytest.mark.slow
def test_of_two_processes_the_first_logs(original: Logged, tmp_path: Path) -> None:
    process = start([str(tmp_path)], make_in_two_processes)
    process.join()
    assert process.exitcode == 0
    boards = (original.board, tmp_path / "tensorboard")
    one, two = (Events(board).scalars()["cost so far/network evaluations"] for board in boards)
    assert two.items() <= one.items()  # its own, after those that the other has written before it begins
    assert len(two) >= 3
    assert 4 in two  # all in the end
    one, two = (Events(board).scalars()["by weight/red"] for board in boards)
    assert two == one
    assert sum(path.stat().st_size > 0 for path in (tmp_path / "tensorboard").glob("*.srsoup")) == 1


def test_failures_are_counted_and_the_worst_stands_in(tmp_path: Path) -> None:
    class Patchy(Reward):
        def score(self, images: Tensor, prompts: list[str]) -> Tensor:
            scores = images[:, 2].mean((1, 2))
            return torch.where(scores == scores.max(), torch.nan, scores) if len(images) > 1 else scores

    module = make_quick(OraclePolicy("worst"), red=Channel(0), blue=Patchy())
    soups = predict(module, tmp_path, [SampleWriter(), charts()])
    scalars = Events(tmp_path / "tensorboard").scalars()
    failures = sum(soup.ledger.failures["blue"] for soup in soups)
    assert scalars["cost so far/failures of blue"][4] == failures > 0
    assert "cost so far/failures of red" not in scalars
    for values in scalars.values():
        assert np.isfinite(list(values.values())).all()
    blue = fmean(float(soup.rewards[1, 1]) for soup in soups)
    assert scalars["by weight/blue"][100] == pytest.approx(blue)


def test_without_loggers_nothing_is_logged(tmp_path: Path) -> None:
    module, counts = make_quick(), set()
    module.step_callbacks.append(lambda _: counts.add(len(module.step_callbacks)))
    predict(module, tmp_path, [SampleWriter(), charts()], loggers=False)
    assert counts == {2}  # this one, and the one of the writer
    assert not list(tmp_path.rglob("events*"))


class Shown(CSVLogger):
    """A logger with the methods for pictures and tables that Weights & Biases has."""

    def log_image(self, key: str, images: list[Image.Image], step: int | None = None) -> None:
        self.shown = [*getattr(self, "shown", []), (key, images[0].width > 100, step)]

    def log_table(self, key: str, columns: list[str], data: list[list[object]]) -> None:
        self.tables = getattr(self, "tables", {}) | {key: (columns, data)}


def test_other_loggers_get_the_same_numbers_and_pictures_and_tables_if_they_can(tmp_path: Path) -> None:
    logger, plain = Shown(tmp_path, "shown"), CSVLogger(tmp_path, "plain")
    board = TensorBoardLogger(tmp_path, "tensorboard", "")
    predict(make_quick(), tmp_path, [charts(sheets=1, box=BOX)], loggers=[board, logger, plain])
    expected = Events(tmp_path / "tensorboard").scalars()
    for each in (logger, plain):
        table = list(csv.DictReader((Path(each.log_dir) / "metrics.csv").open()))
        for tag, values in expected.items():
            assert {int(row["step"]): float(row[tag]) for row in table if row[tag]} == pytest.approx(values, rel=1e-5)
        assert "method: WeightedSum" in (Path(each.log_dir) / "hparams.yaml").read_text()
    assert logger.shown == [("pictures", True, 1), ("front", True, 4)]
    assert list(logger.tables) == ["rewards", "costs"]
    columns, rows = logger.tables["rewards"]
    assert columns == ["preference", "red", "blue"]
    red, blue = expected["by weight/red"][100], expected["by weight/blue"][0]
    assert rows[0] == ["red 1, blue 0", pytest.approx(red), pytest.approx(blue)]


def test_one_callback_serves_runs_one_after_another_wherever_tensorboard_is_among_the_loggers(tmp_path: Path) -> None:
    callback, module = charts(), make_quick()
    check_costs(tmp_path / "first" / "tensorboard", predict(module, tmp_path / "first", [callback]))
    board = TensorBoardLogger(tmp_path / "mine", "soups", version=3)
    soups = predict(module, tmp_path, [callback], loggers=[CSVLogger(tmp_path, "csv"), board])
    check_costs(tmp_path / "mine" / "soups" / "version_3", soups)
    assert {path.parent.name for path in (tmp_path / "mine").rglob("*.srsoup")} == {"version_3"}


def test_figure_and_measures_of_fronts_are_left_out_without_matplotlib_box_or_a_second_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soups = predict(make_quick(red=Channel(0)), tmp_path / "one", [charts(box={"red": (0.0, 1.0)})])
    one = Events(tmp_path / "one" / "tensorboard")
    assert one.read.Tags()["images"] == ["pictures"]
    red = fmean(float(soup.rewards[0, 0]) for soup in soups)
    assert one.scalars()["result/utility"][4] == pytest.approx(red)
    monkeypatch.setattr("srsoup_lightning.callbacks.tensorboard.find_spec", lambda name: None)
    predict(make_quick(), tmp_path, [charts()])
    (record,) = (record for record in caplog.records if "matplotlib" in record.message)
    assert "pip install 'srsoup-lightning[report]'" in record.message
    assert Events(tmp_path / "tensorboard").read.Tags()["images"] == ["pictures"]


def test_options_that_cannot_be_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sheets is -1: give 0 or more"):
        charts(sheets=-1)
    with pytest.raises(ValueError, match="box leaves out"):
        predict(make_quick(), tmp_path, [charts(box={"red": (0.0, 1.0)})])
    with pytest.raises(ValueError, match=r"study is 'elsewhere', and the run directory .* is not at most 2 folders"):
        predict(make_quick(), tmp_path, [SampleWriter(), ParetoLogger(study="elsewhere")])
    assert not list(tmp_path.rglob("*.srsoup"))
