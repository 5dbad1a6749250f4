"""Event files read back: tags and values against the soups' own numbers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

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
from srsoup_lightning.runs.directory import RunDirectory, prompt_slug
from srsoup_lightning.samplers import Moment, OraclePolicy, RewardError, Soup, WeightedSum
from tests.conftest import Broken, Channel, MixtureBackbone, make_module, quiet_trainer

BOX = {"red": (-0.5, 1.0), "blue": (-0.5, 1.5)}
ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ("one", "two")
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
    """What a folder of event files holds."""

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
        return {
            event.step: np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
            for event in events
        }

    def settings(self) -> dict[str, float | str]:
        content = self.read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        values = metadata.parse_session_start_info_plugin_data(content).hparams
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def spent_by(soups: list[Soup]) -> Iterator[Mapping[str, float]]:
    """What the ledgers of the first one, two and so on add up to, without the time it took."""
    for count in range(1, len(soups) + 1):
        ledgers = [soup.ledger for soup in soups[:count]]
        yield {
            "queries of red": sum(ledger.queries["red"] for ledger in ledgers),
            "queries of blue": sum(ledger.queries["blue"] for ledger in ledgers),
            "network evaluations": sum(ledger.nfe for ledger in ledgers),
            "decodes": sum(ledger.decodes for ledger in ledgers),
        }


def check_costs(folder: Path, soups: list[Soup]) -> None:
    scalars = Events(folder).scalars()
    for step, spent in enumerate(spent_by(soups), 1):
        assert {name: scalars[f"cost so far/{name}"][step] for name in spent} == spent
    assert set(scalars) == {f"cost so far/{name}" for name in [*spent, "seconds"]}
    assert {len(values) for values in scalars.values()} == {len(soups)}
    seconds = sum(soup.ledger.seconds for soup in soups)
    assert scalars["cost so far/seconds"][len(soups)] == pytest.approx(seconds, rel=1e-5)


def test_costs_add_up_soup_by_soup(module: SRSoupModule, tmp_path: Path) -> None:
    soups = predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    check_costs(tmp_path / "tensorboard", soups)
    assert not module.step_callbacks


def test_a_sheet_shows_every_picture_of_a_soup(module: SRSoupModule, tmp_path: Path) -> None:
    soups = predict(module, tmp_path, [ParetoLogger()])
    sheets = Events(tmp_path / "tensorboard").images("pictures")
    assert list(sheets) == [1, 2, 3, 4]
    for soup, sheet in zip(soups, sheets.values(), strict=True):
        assert sheet.shape[1] == 3 * 128 + 4 * 6  # six pictures, three in a row
        for image in soup.images:
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy().repeat(16, 0).repeat(16, 1)
            windows = np.lib.stride_tricks.sliding_window_view(sheet, pixels.shape)[:, ::1, 0]
            assert any(np.array_equal(window, pixels) for window in windows[:, 6::134].reshape(-1, *pixels.shape))


@pytest.mark.parametrize(("sheets", "steps"), [(1, [1]), (2, [1, 3]), (3, [1, 3]), (4, [1, 2, 3, 4])])
def test_sheets_are_spread_over_the_run(module: SRSoupModule, tmp_path: Path, sheets: int, steps: list[int]) -> None:
    predict(module, tmp_path, [ParetoLogger(sheets=sheets)])
    assert list(Events(tmp_path / "tensorboard").images("pictures")) == steps


def test_no_sheets_and_no_curves_where_none_are_wanted(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [ParetoLogger(sheets=0, curves=0)])
    assert not Events(tmp_path / "tensorboard").read.Tags()["images"]
    assert [path.name for path in (tmp_path / "tensorboard" / "denoising").iterdir()] == ["mean from soup 1 on"]


class Noted(Channel):
    """A reward that keeps its answers."""

    def __init__(self, channel: int) -> None:
        super().__init__(channel)
        self.answers: list[Tensor] = []

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.answers.append(super().score(images, prompts))
        return self.answers[-1]


def test_curves_are_of_what_rewards_answered_at_each_step(tmp_path: Path) -> None:
    rewards = {"red": Noted(0), "blue": Noted(2)}
    preferences = Preferences(["red", "blue"], {"left": [1, 0], "middle": [0.5, 0.5], "right": [0, 1]})
    sampler = WeightedSum(num_inference_steps=4, candidates=5)
    module = SRSoupModule(MixtureBackbone(), rewards, sampler, preferences)
    told: list[tuple[int, int, int]] = []
    module.step_callbacks.append(
        lambda moment: told.append((moment.step, moment.ledger.nfe, moment.ledger.queries["red"]))
    )
    predict(module, tmp_path, [ParetoLogger(curves=3)])
    folders = [Path(prompt_slug(prompt), str(seed)) for prompt in PROMPTS for seed in (0, 1)]
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
    for name, who in (("red", ("left", "middle")), ("blue", ("middle", "right"))):
        answers = rewards[name].answers[4 * soup : 4 * soup + 4]  # three steps and the final pictures
        for place, preference in enumerate(who):
            parts = [answer[:5] if len(answer) == 5 else answer[5 * place :][:5] for answer in answers[:3]]
            curves[f"{name} of candidates/{preference}"] = {step: float(a.mean()) for step, a in enumerate(parts, 1)}
    return curves


def test_closeness_falls_from_one_between_bounds(module: SRSoupModule, tmp_path: Path) -> None:
    seen: list[Tensor | None] = []

    def look(moment: Moment) -> None:
        seen.append(None if moment.observation is None else moment.observation.closeness)

    module.step_callbacks.append(look)
    predict(module, tmp_path, [ParetoLogger(curves=1)])
    curves = Events(tmp_path / "tensorboard" / "denoising" / prompt_slug(PROMPTS[0]) / "0").scalars()
    for step, near in enumerate(seen[:5], 1):
        pairs = [float(near[p, q]) for p in range(6) for q in range(p)]
        for tag, value in (("mean of all pairs", fmean(pairs)), ("lowest", min(pairs)), ("highest", max(pairs))):
            assert curves[f"closeness/{tag}"][step] == pytest.approx(value, rel=1e-5)
    assert curves["closeness/lowest"][1] == 1 > curves["closeness/lowest"][5]
    assert list(curves["closeness/lowest"]) == [1, 2, 3, 4, 5]  # the sixth step has no noise to search


def test_sessions_hold_weights_settings_and_mean_rewards(module: SRSoupModule, tmp_path: Path) -> None:
    soups = predict(module, tmp_path, [SampleWriter(), ParetoLogger(box=BOX)])
    volumes = []
    for soup in soups:
        scaled = sorted(
            ((red + 0.5) / 1.5, (blue + 0.5) / 2) for red, blue in soup.rewards.tolist() if min(red, blue) > -0.5
        )
        edge, volume = 0.0, 0.0
        for red, blue in reversed(scaled):  # from the right, each adds what rises above those before it
            volume += red * max(0.0, blue - edge)
            edge = max(edge, blue)
        volumes.append(volume)
    folder = tmp_path / "tensorboard" / "front"
    for p, name in enumerate(soups[0].preference_names):
        events = Events(folder / name)
        red, blue = (fmean(float(soup.rewards[p, j]) for soup in soups) for j in (0, 1))
        weights = soups[0].preferences[p].tolist()
        assert {tag: dict(values) for tag, values in events.scalars().items()} == {
            "reward/red": {4: pytest.approx(red)},
            "reward/blue": {4: pytest.approx(blue)},
            "utility": {4: pytest.approx(weights[0] * (red + 0.5) / 1.5 + weights[1] * (blue + 0.5) / 2)},
            "hypervolume": {4: pytest.approx(fmean(volumes))},
            "cost a soup/queries": {4: fmean(soup.ledger.total_queries for soup in soups)},
            "cost a soup/network evaluations": {4: fmean(soup.ledger.nfe for soup in soups)},
        }
        settings = events.settings()
        assert (settings["weight/red"], settings["weight/blue"]) == pytest.approx(tuple(weights), abs=1e-6)
        assert settings["method"] == "SRSoup FixedSoup"
        assert settings["with/sharing"] == "FixedSoup(start=0, end=3)"
        assert (settings["with/candidates"], settings["with/num_inference_steps"]) == (4, 6)
        assert "with/antithetic" not in settings
    assert len(list(folder.glob("*/events*"))) == 6
    assert Events(folder).images("front")[4].shape[2] == 3


def test_without_a_box_nothing_is_said_that_compares_with_no_other_run(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [ParetoLogger()])
    tags = Events(tmp_path / "tensorboard" / "front" / "red1-blue0").scalars()
    assert not {"utility", "hypervolume"} & set(tags)


def test_the_layout_finds_its_tags(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [ParetoLogger()])
    folder = tmp_path / "tensorboard"
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


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    # Six steps query five times (the last has no noise) and the final pictures once: two soups pass.
    torn = make_module({"red": Channel(0), "blue": Broken(after=12)})
    with pytest.raises(RewardError):
        predict(torn, tmp_path / "torn", [SampleWriter(), ParetoLogger()])
    assert not torn.step_callbacks
    assert not (tmp_path / "torn" / "tensorboard" / "front").exists()
    patient = make_module({"red": Channel(0), "blue": Broken(after=1_000)})
    predict(patient, tmp_path / "torn", [SampleWriter(), ParetoLogger()])
    soups = predict(patient, tmp_path / "whole", [SampleWriter(), ParetoLogger()])
    for _ in range(2):  # also where there is nothing more to make
        folder = tmp_path / "torn" / "tensorboard"
        scalars, whole = (Events(tmp_path / run / "tensorboard").scalars() for run in ("torn", "whole"))
        for tag in set(whole) - {"cost so far/seconds"}:
            assert scalars[tag] == whole[tag]
        assert list(scalars["cost so far/seconds"]) == [1, 2, 3, 4]
        assert list(Events(folder).images("pictures")) == [1, 2, 3, 4]
        assert list(Events(folder / "front").images("front")) == [4]
        red = fmean(float(soup.rewards[0, 0]) for soup in soups)
        assert Events(folder / "front" / "red1-blue0").scalars()["reward/red"] == {4: pytest.approx(red)}
        first, resumed, third = (
            Events(folder / "denoising" / name).scalars()["red of candidates/red1-blue0"]
            for name in (f"{prompt_slug(PROMPTS[0])}/0", "mean from soup 3 on", f"{prompt_slug(PROMPTS[1])}/0")
        )
        assert list(first) == list(resumed) == list(third) == [1, 2, 3, 4, 5]
        predict(patient, tmp_path / "torn", [SampleWriter(), ParetoLogger()])


def test_a_soup_that_was_lost_and_made_again_counts_once(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    row = list(RunDirectory(tmp_path).sample_rows())[-1]
    (tmp_path / row["image"]).unlink()
    predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    assert [list(values) for values in Events(tmp_path / "tensorboard").scalars().values()] == [[1, 2, 3, 4]] * 5


def test_overwriting_leaves_nothing_of_the_old_charts(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    soups = predict(module, tmp_path, [SampleWriter(overwrite=True), ParetoLogger()], ["a cow"])
    check_costs(tmp_path / "tensorboard", soups)
    assert not (tmp_path / "tensorboard" / "denoising" / prompt_slug(PROMPTS[0])).exists()


def test_what_other_processes_made_counts_in_the_end(module: SRSoupModule, tmp_path: Path) -> None:
    (other,) = predict(module, tmp_path / "other", [ParetoLogger()], ["a cow"])[:1]

    class OtherProcess(L.Callback):
        def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            RunDirectory(tmp_path, rank=1).write(other)

    ours = predict(module, tmp_path, [SampleWriter(), OtherProcess(), ParetoLogger()])
    check_costs(tmp_path / "tensorboard", [*ours, other])
    reds = Events(tmp_path / "tensorboard" / "front" / "red1-blue0").scalars()["reward/red"]
    assert reds == {5: pytest.approx(fmean(float(soup.rewards[0, 0]) for soup in [*ours, other]))}


def make_in_two_processes(root: Path) -> None:
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    predict(module, root, [SampleWriter(), ParetoLogger()], devices=2, strategy="ddp_fork")


@pytest.mark.slow
def test_of_two_processes_the_first_logs(module: SRSoupModule, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tests.callbacks.test_tensorboard import make_in_two_processes\n"
    code += "make_in_two_processes(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "two")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predict(module, tmp_path / "one", [SampleWriter(), ParetoLogger()])
    one, two = (
        Events(tmp_path / name / "tensorboard").scalars()["cost so far/network evaluations"] for name in NUMBERS
    )
    assert two == {step: one[step] for step in (1, 2, 4)}  # two of its own, and all in the end
    one, two = (Events(tmp_path / name / "tensorboard/front/red1-blue0").scalars()["reward/red"] for name in NUMBERS)
    assert two == one
    assert len(list((tmp_path / "two" / "tensorboard").glob("events*"))) == 1


def test_failures_are_counted_and_the_worst_stands_in(tmp_path: Path) -> None:
    class Patchy(Reward):
        def score(self, images: Tensor, prompts: list[str]) -> Tensor:
            scores = images[:, 2].mean((1, 2))
            return torch.where(scores == scores.max(), torch.nan, scores) if len(images) > 1 else scores

    plain = make_module({"red": Channel(0), "blue": Patchy()})
    module = SRSoupModule(
        MixtureBackbone(),
        {"red": Channel(0), "blue": Patchy()},
        plain.sampler,
        plain.preferences,
        oracle=OraclePolicy("worst"),
    )
    soups = predict(module, tmp_path, [SampleWriter(), ParetoLogger()])
    scalars = Events(tmp_path / "tensorboard").scalars()
    failures = sum(soup.ledger.failures["blue"] for soup in soups)
    assert scalars["cost so far/failures of blue"][4] == failures > 0
    assert "cost so far/failures of red" not in scalars
    for values in Events(tmp_path / "tensorboard" / "denoising" / "mean from soup 1 on").scalars().values():
        assert np.isfinite(list(values.values())).all()
    blue = fmean(float(soup.rewards[5, 1]) for soup in soups)
    assert Events(tmp_path / "tensorboard" / "front" / "red0-blue1").scalars()["reward/blue"][4] == pytest.approx(blue)


@pytest.mark.parametrize("kind", ["none", "another"])
def test_without_tensorboard_among_the_loggers_nothing_happens(module: SRSoupModule, tmp_path: Path, kind: str) -> None:
    heard: list[int] = []
    module.step_callbacks.append(lambda _: heard.append(len(module.step_callbacks)))
    loggers = False if kind == "none" else CSVLogger(tmp_path, "csv")
    predict(module, tmp_path, [SampleWriter(), ParetoLogger()], loggers=loggers)
    assert set(heard) == {1}
    assert not list(tmp_path.rglob("events*"))


def test_tensorboard_is_found_among_other_loggers(module: SRSoupModule, tmp_path: Path) -> None:
    board = TensorBoardLogger(tmp_path / "mine", "soups", version=3)
    soups = predict(module, tmp_path, [ParetoLogger()], loggers=[CSVLogger(tmp_path, "csv"), board])
    check_costs(tmp_path / "mine" / "soups" / "version_3", soups)
    assert len(list((tmp_path / "mine").rglob("front/*/events*"))) == 6


def test_one_callback_serves_one_run_after_another(module: SRSoupModule, tmp_path: Path) -> None:
    callback = ParetoLogger()
    for root in (tmp_path / "first", tmp_path / "second"):
        check_costs(root / "tensorboard", predict(module, root, [callback]))


def test_without_matplotlib_all_but_the_figure_is_there(
    module: SRSoupModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("srsoup_lightning.callbacks.event_files.find_spec", lambda name: None)
    predict(module, tmp_path, [ParetoLogger()])
    (record,) = (record for record in caplog.records if "matplotlib" in record.message)
    assert "pip install 'srsoup-lightning[report]'" in record.message
    assert len(list((tmp_path / "tensorboard" / "front").glob("*/events*"))) == 6


def test_one_reward_has_sessions_and_no_front(tmp_path: Path) -> None:
    module = SRSoupModule(
        MixtureBackbone(),
        {"red": Channel(0)},
        WeightedSum(num_inference_steps=3, candidates=2),
        Preferences.lattice(["red"], 1),
    )
    soups = predict(module, tmp_path, [ParetoLogger(box={"red": (0.0, 1.0)})])
    folder = tmp_path / "tensorboard" / "front"
    assert not Events(folder).read.Tags()["images"]
    red = fmean(float(soup.rewards[0, 0]) for soup in soups)
    assert Events(folder / "red1").scalars()["utility"][4] == pytest.approx(red)


@pytest.mark.parametrize("options", [{"sheets": -1}, {"curves": -2}])
def test_negative_numbers_are_named(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"is -\d: give 0 or more"):
        ParetoLogger(**options)


def test_bounds_that_leave_out_a_reward_are_refused_before_anything_is_sampled(
    module: SRSoupModule, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="box leave out"):
        predict(module, tmp_path, [ParetoLogger(box={"red": (0.0, 1.0)})])
    assert not list(tmp_path.rglob("front"))
