from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from PIL import Image
from torch import nn

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import RunSummary, SampleWriter, SoupCallback, SoupProgress
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.report.sheet import write_sheets
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.naming import prompt_slug
from srsoup_lightning.runs.reading import read_run
from srsoup_lightning.samplers.result import OnStep
from tests.conftest import Broken, Channel, make_module, quiet_trainer
from tests.runs.test_directory import make_soup

PROMPTS = ["a cat", "a dog", "a cow"]


def predict(module: SRSoupModule, root: Path, callbacks: list[L.Callback], prompts: list[str]) -> None:
    trainer = quiet_trainer(default_root_dir=root, callbacks=callbacks)
    trainer.predict(module, PromptDataModule(prompts, [0, 1]), return_predictions=False)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of all prompts."""
    root = tmp_path_factory.mktemp("run")
    predict(make_module({"red": Channel(0), "blue": Channel(2)}), root, [SampleWriter(), RunSummary()], PROMPTS)
    return RunDirectory(root)


@pytest.fixture
def finished(original: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of the finished run."""
    return RunDirectory(shutil.copytree(original.root, tmp_path / "copy"))


def contents(root: Path) -> dict[Path, bytes]:
    """All files but those by which processes keep out of each other's way."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}


class Plain(L.LightningModule):
    """A module that is trained."""

    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.fails:
            raise RuntimeError("no validation")

    def predict_step(self, batch: Any, batch_idx: int) -> int:
        return batch_idx

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], 0.1)

    def train_dataloader(self) -> list[int]:
        return [0]

    val_dataloader = train_dataloader


class TrainedSoups(Plain, SRSoupModule):
    def __init__(self) -> None:
        soups = make_module(rewards := {"red": Channel(0), "blue": Channel(2)})
        SRSoupModule.__init__(self, soups.backbone, rewards, soups.sampler, soups.preferences)
        self.weight = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("make", [Plain, TrainedSoups])
def test_callbacks_leave_other_stages_and_modules_alone(make: type[L.LightningModule], finished: RunDirectory) -> None:
    before, module = contents(finished.root), make()
    callbacks = [make() for make in SoupCallback.__subclasses__() if make.__module__.startswith("srsoup_lightning.c")]
    assert len(callbacks) >= 4
    trainer = quiet_trainer(default_root_dir=finished.root, callbacks=callbacks, max_epochs=1)
    trainer.fit(module)
    trainer.validate(module)
    if make is Plain:
        trainer.predict(module, [0])
    else:
        assert not module.step_callbacks
    module.fails = True
    with pytest.raises(RuntimeError, match="no validation"):
        trainer.validate(module)
    assert contents(finished.root) == before


class Recorder(SoupCallback):
    """Keeps the names of the hooks that are called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def on_run_setup(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        self.called.append("setup")

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> object:
        self.called.append("start")
        return lambda moment: self.called.append(f"step {moment.step}")

    def on_soup_start(self, request: object) -> None:
        self.called.append(f"soup of seed {request.seed}")

    def on_soup_end(self, trainer: L.Trainer, soup: object, index: int) -> None:
        self.called.append(f"soup {index} is done, seed {soup.seed}")

    def on_soups_end(self, failed: bool) -> None:
        self.called.append(f"no more soups, failed: {failed}")

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        self.called.append("end")


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_come_in_order_and_finished_soups_stay_after_a_failure(tmp_path: Path, fails: bool) -> None:
    recorder, module = Recorder(), make_module({"red": Channel(0), "blue": Broken(after=6 if fails else 1_000)})
    # Six steps query five times (the last has no noise) and the final pictures once: the first soup passes.
    with pytest.raises(RewardError, match="'blue'") if fails else nullcontext():
        predict(module, tmp_path, [recorder, SampleWriter(), SoupProgress()], ["a cat"])
    assert [row.seed for row in RunDirectory(tmp_path).cost_rows()] == ([0] if fails else [0, 1])
    steps = [f"step {step}" for step in range(1, 7)]
    first = ["setup", "start", "soup of seed 0", *steps, "soup 0 is done, seed 0", "soup of seed 1"]
    second = [*steps, "soup 1 is done, seed 1", "no more soups, failed: False", "end"]
    assert recorder.called == [*first, *(["no more soups, failed: True"] if fails else second)]
    assert not module.step_callbacks


def test_every_soup_is_written_and_a_sheet_has_a_column_a_preference_and_a_row_a_seed(original: RunDirectory) -> None:
    rows = list(original.image_rows())
    assert len(rows) == len(PROMPTS) * 2 * 6
    assert all((original.root / row.image).is_file() for row in rows)
    sheets = sorted(original.sheets.glob("*.png"))
    assert len(sheets) == len(PROMPTS)
    with Image.open(sheets[0]) as sheet, Image.open(original.root / rows[0].image) as picture:
        width, height = sheet.size
        assert width > 6 * 128
        assert height > 2 * 128
        # The first picture of the first seed, enlarged without smoothing, stands below the heading.
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(width * height)}
        assert {colour for _, colour in picture.getcolors(64)} <= colours


def test_another_run_is_refused_before_anything_is_sampled(module: SRSoupModule, finished: RunDirectory) -> None:
    before, steps = finished.samples.read_bytes(), []
    module.step_callbacks.append(steps.append)
    with pytest.raises(FileExistsError, match=r"holds prompt 'a cat', seed 0, not asked for now.*overwrite"):
        predict(module, finished.root, [SampleWriter()], PROMPTS[1:])
    module.preferences = Preferences.lattice(["red", "blue"], 2)
    with pytest.raises(FileExistsError, match=r"holds another run \(preferences\.red0.8-blue0.2 was .*overwrite"):
        predict(module, finished.root, [SampleWriter()], PROMPTS)
    assert not steps
    assert finished.samples.read_bytes() == before


def test_the_same_run_again_makes_and_draws_what_is_missing_alone(module: SRSoupModule, finished: RunDirectory) -> None:
    complete = sorted(finished.samples.read_text().splitlines())
    cat, dog, cow = (finished.sheets / f"{prompt_slug(prompt)}.png" for prompt in PROMPTS)
    before = {sheet: sheet.stat().st_mtime_ns for sheet in (cat, dog)}
    lost = next(row for row in finished.image_rows() if row.key == ("a dog", 1))
    (finished.root / lost.image).write_bytes(b"torn")
    cow.unlink()
    made: list[object] = []
    module.step_callbacks.append(made.append)
    predict(module, finished.root, [SampleWriter(), RunSummary()], [*PROMPTS, "a hen"])
    assert len(made) == 3 * 6  # one of the dog and both of the hen, six steps each
    rows = sorted(finished.samples.read_text().splitlines())
    assert [row for row in rows if "a hen" not in row] == complete
    assert len(rows) == len(set(rows)) == 8 * 6
    assert cow.is_file()
    assert {sheet: sheet.stat().st_mtime_ns > time for sheet, time in before.items()} == {cat: False, dog: True}
    predict(module, finished.root, [SampleWriter(overwrite=True)], ["a dog"])
    assert {row.prompt for row in finished.image_rows()} == {"a dog"}
    assert len(list((finished.root / "samples").iterdir())) == 1


def test_the_summary_shows_table_cost_and_paths(
    module: SRSoupModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, box = RunDirectory(tmp_path / "run"), {"red": (0.0, 1.0), "blue": (0.0, 1.0)}
    predict(module, run.root, [SampleWriter(), SoupProgress(), RunSummary(box=box)], ["a cat", "[bold]x"])
    shown = capsys.readouterr().out
    reds = [row.rewards["red"] for row in run.image_rows() if row.preference["red"] == 1]
    assert f"{sum(reds) / len(reds):.3f}" in shown
    assert "12 queries of red" not in shown  # a soup costs 4 x (3 shared + 2 x 5 own) queries of each reward
    assert "52 queries of red, 52 queries of blue" in shown
    assert str(run.root / "samples") in shown.replace("\n", "")


class Watch(SoupCallback):
    """Notes how far the bar is, and the network evaluations of the soup, after every step."""

    def __init__(self, bar: SoupProgress) -> None:
        self.bar, self.seen = bar, []

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep:
        return lambda moment: self.seen.append((self.bar._progress.tasks[0].completed, moment.ledger.nfe))


def test_the_bar_counts_network_evaluations_and_not_steps(module: SRSoupModule, tmp_path: Path) -> None:
    watch = Watch(bar := SoupProgress())
    predict(module, tmp_path, [bar, watch], ["a cat"])
    done, evaluations = zip(*watch.seen, strict=True)
    shares = [number / evaluations[5] for number in evaluations]  # six steps a soup, of which the first half searches
    assert done == pytest.approx([*shares[:6], *(1 + share for share in shares[6:])])
    assert shares[2] != pytest.approx(0.5, abs=0.1)


def test_a_sheet_of_many_seeds_shows_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, shown = RunDirectory(tmp_path), []
    monkeypatch.setattr("srsoup_lightning.report.sheet.SEEDS", 3)
    for seeds in (3, 4):
        run.clear()
        for seed in reversed(range(seeds)):
            run.write(make_soup(seed=seed))
        write_sheets(read_run(run.root))
        shown.append(next(run.sheets.iterdir()).read_bytes())
    assert shown[0] == shown[1]
