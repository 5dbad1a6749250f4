from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
from PIL import Image

from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import RunSummary, SampleWriter, SoupProgress
from srsoup_lightning.report.sheet import SEEDS, write_sheets
from srsoup_lightning.runs.directory import RunDirectory, prompt_slug
from srsoup_lightning.samplers import RewardError
from tests.conftest import Broken, Channel, make_module, quiet_trainer
from tests.runs.test_directory import make_soup


def predict(module: SRSoupModule, root: Path, callbacks: list[L.Callback], prompts: list[str]) -> None:
    trainer = quiet_trainer(default_root_dir=root, callbacks=callbacks)
    trainer.predict(module, PromptDataModule(prompts, [0, 1]), return_predictions=False)


def test_every_soup_is_written(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter()], ["a cat", "a dog"])
    run = RunDirectory(tmp_path)
    assert len(list(run.sample_rows())) == 2 * 2 * 6
    assert all((tmp_path / row["image"]).is_file() for row in run.sample_rows())


def test_another_run_in_the_directory_is_refused_before_anything_is_sampled(
    module: SRSoupModule, tmp_path: Path
) -> None:
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    before = RunDirectory(tmp_path).samples.read_bytes()
    steps: list[object] = []
    module.step_callbacks.append(steps.append)
    with pytest.raises(FileExistsError, match=r"holds prompt 'a cat', seed 0, not asked for now.*overwrite"):
        predict(module, tmp_path, [SampleWriter()], ["a dog"])
    module.preferences = Preferences.lattice(["red", "blue"], 2)
    with pytest.raises(FileExistsError, match=r"holds a run of other preferences.*overwrite"):
        predict(module, tmp_path, [SampleWriter()], ["a cat"])
    assert not steps
    assert RunDirectory(tmp_path).samples.read_bytes() == before


def test_the_same_run_again_makes_what_is_missing_alone(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter()], ["a cat", "a dog"])
    run = RunDirectory(tmp_path)
    whole = sorted(run.samples.read_text().splitlines())
    lost = next(row for row in run.sample_rows() if row["prompt"] == "a dog" and row["seed"] == 1)
    (tmp_path / lost["image"]).write_bytes(b"torn")
    made: list[object] = []
    module.step_callbacks.append(made.append)
    predict(module, tmp_path, [SampleWriter()], ["a cat", "a dog", "a cow"])
    assert len(made) == 3 * 6  # a dog's one and both of the cow, six steps each
    rows = sorted(run.samples.read_text().splitlines())
    assert [row for row in rows if "a cow" not in row] == whole
    assert len(rows) == len(set(rows)) == 6 * 6


def test_overwriting_leaves_nothing_of_the_old_run(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter()], ["a cat"])
    predict(module, tmp_path, [SampleWriter(overwrite=True)], ["a dog"])
    assert {row["prompt"] for row in RunDirectory(tmp_path).sample_rows()} == {"a dog"}
    assert len(list((tmp_path / "samples").iterdir())) == 1


def test_what_was_finished_before_a_failure_stays(tmp_path: Path) -> None:
    # Six steps query five times (the last has no noise) and the final pictures once: the first soup passes.
    module = make_module({"red": Channel(0), "bad": Broken(after=6)})
    with pytest.raises(RewardError, match="'bad'"):
        predict(module, tmp_path, [SampleWriter(), SoupProgress()], ["a cat"])
    assert [row["seed"] for row in RunDirectory(tmp_path).ledger_rows()] == [0]
    assert not module.step_callbacks


def test_the_summary_shows_table_cost_and_places(
    module: SRSoupModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"red": (0.0, 1.0), "blue": (0.0, 1.0)}
    predict(module, tmp_path, [SampleWriter(), SoupProgress(), RunSummary(box=box)], ["a cat", "[bold]x"])
    shown = capsys.readouterr().out
    rows = list(RunDirectory(tmp_path).sample_rows())
    reds = [row["rewards"]["red"] for row in rows if row["preference"]["red"] == 1]
    assert f"{sum(reds) / len(reds):.3f}" in shown
    assert "12 queries of red" not in shown  # what a soup costs: 4 x (3 shared + 2 x 5 own) of each reward
    assert "52 queries of red, 52 queries of blue" in shown
    assert str(tmp_path / "samples") in shown.replace("\n", "")


def test_a_sheet_has_a_column_a_preference_and_a_row_a_seed(module: SRSoupModule, tmp_path: Path) -> None:
    predict(module, tmp_path, [SampleWriter(), RunSummary()], ["a cat", "a dog"])
    sheets = sorted((tmp_path / "sheets").glob("*.png"))
    assert len(sheets) == 2
    row = next(RunDirectory(tmp_path).sample_rows())
    with Image.open(sheets[0]) as sheet, Image.open(tmp_path / row["image"]) as picture:
        width, height = sheet.size
        assert width > 6 * 128
        assert height > 2 * 128
        # The first picture of the first seed, enlarged without smoothing, stands below the heading.
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(width * height)}
        assert {colour for _, colour in picture.getcolors(64)} <= colours


def test_only_sheets_with_something_new_are_drawn_again(module: SRSoupModule, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    predict(module, tmp_path, [SampleWriter(), RunSummary()], ["a cat", "a dog", "a cow"])
    cat, dog, cow = (run.sheets / f"{prompt_slug(prompt)}.png" for prompt in ("a cat", "a dog", "a cow"))
    before = {sheet: sheet.stat().st_mtime_ns for sheet in (cat, dog)}
    (tmp_path / next(row["image"] for row in run.sample_rows() if row["prompt"] == "a dog")).unlink()
    cow.unlink()
    predict(module, tmp_path, [SampleWriter(), RunSummary()], ["a cat", "a dog", "a cow"])
    assert cow.is_file()
    assert {sheet: sheet.stat().st_mtime_ns > time for sheet, time in before.items()} == {cat: False, dog: True}


def test_a_sheet_of_many_seeds_shows_the_first(tmp_path: Path) -> None:
    run, shown = RunDirectory(tmp_path), []
    for seeds in (SEEDS, SEEDS + 1):
        run.clear()
        for seed in reversed(range(seeds)):
            run.write(make_soup(seed=seed))
        write_sheets(run, run.sample_rows())
        shown.append(next(run.sheets.iterdir()).read_bytes())
    assert shown[0] == shown[1]
