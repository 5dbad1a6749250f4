"""Scores of pictures from anywhere: their prompts and pixels, resuming, and refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from rewards import Reward
from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.score import score
from srsoup_lightning.oracle import RewardError
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.pictures import batches, find_entries, load_images
from srsoup_lightning.runs.reading import read_runs
from srsoup_lightning.runs.rows import ImageRow
from tests.conftest import Channel
from tests.report.runs import read_rows
from tests.runs.test_directory import make_soup


class Length(Reward):
    """How long the prompt is, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.asked += len(images)
        return torch.tensor([float(len(prompt)) for prompt in prompts])


class Blind(Reward):
    """Gives bright pictures no score until it is cured."""

    cured = False

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        scores = images.mean((1, 2, 3))
        return scores if self.cured else torch.where(scores > 0.5, torch.nan, scores)


def paint(path: Path, level: int, size: tuple[int, int] = (4, 4), mode: str = "RGB", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = {"RGB": (level, 0, 0), "L": level, "RGBA": (level, 0, 0, 0), "P": 0}[mode]
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red pictures of levels 0, 51, 102 and 255, one of them of another size and in a subfolder."""
    pictures = tmp_path / "pictures"
    for name, level in {"a.png": 0, "b.webp": 51, "d.png": 255}.items():
        paint(pictures / name, level, lossless=True)
    paint(pictures / "c" / "c.bmp", 102, (6, 4))
    (pictures / "notes.txt").write_text("no picture")
    return pictures


def prompts_file(folder: Path, *lines: str) -> str:
    path = folder.parent / "prompts.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def score_length(folder: Path, out: Path, length: Length, prompts: str = "x", **options: object) -> list[ImageRow]:
    """Score the pictures of a folder by the length of one prompt."""
    return score({"length": length}, str(folder), prompts_file(folder, prompts), str(out), **options)


def test_every_picture_gets_its_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "scores.jsonl"
    lines = prompts_file(folder, "x", "xx", "xxx", "xxxx")
    rows = score({"red": Channel(0), "length": Length()}, str(folder), lines, str(out))
    assert [row.image for row in rows] == [f"../pictures/{name}" for name in ("a.png", "b.webp", "c/c.bmp", "d.png")]
    assert [row.rewards["red"] for row in rows] == pytest.approx([0, 0.2, 0.4, 1])
    assert [row.rewards["length"] for row in rows] == [1, 2, 3, 4]
    assert read_rows(out) == [row.to_json() for row in rows]
    rows = score_length(folder, tmp_path / "o.jsonl", Length(), "ein Hähnchen")  # one line is for all
    assert [row.rewards["length"] for row in rows] == [12.0] * 4


def test_a_run_is_scored_by_other_rewards(tmp_path: Path) -> None:
    run, soup = RunDirectory(tmp_path / "run"), make_soup(seed=3)
    run.write(soup)
    rows = score({"red": Channel(0)}, str(run.root), out=str(tmp_path / "red.jsonl"))
    levels = (soup.images[:, 0] * 255).round().mean((1, 2)) / 255
    assert [row.rewards["red"] for row in rows] == pytest.approx(levels.tolist(), abs=1e-6)
    assert [(row.seed, row.preference) for row in rows] == [(row.seed, row.preference) for row in run.image_rows()]
    (read,) = read_runs([f"theirs={tmp_path / 'red.jsonl'}"])
    assert all(read.picture(row).is_file() for row in read.images)


def test_finished_rows_and_pictures_seen_before_cost_nothing_and_a_row_that_a_crash_tore_is_made_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, length = tmp_path / "o.jsonl", Length()
    shutil.copy(folder / "d.png", folder / "again.png")
    assert (len(score_length(folder, out, length)), length.asked) == (5, 4)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "length" in line)
    assert [cell.strip() for cell in line.split("│")[-4:-1]] == ["4", "1", "0"]
    complete = out.read_bytes()
    out.write_bytes(complete[:-9])
    for _ in range(2):
        score_length(folder, out, length)
        assert out.read_bytes() == complete
    assert length.asked == 5
    paint(folder / "e.png", 9)
    assert (len(score_length(folder, out, length)), length.asked) == (6, 6)
    score_length(folder, out, length, overwrite=True)
    assert length.asked == 11


def test_a_run_under_way_gives_what_all_its_processes_have_finished(tmp_path: Path) -> None:
    for rank, seed in enumerate((0, 1)):
        RunDirectory(tmp_path, rank).write(make_soup(seed=seed))
    rewards, out = {"red": Channel(0)}, tmp_path / "o.jsonl"
    complete = score(rewards, str(tmp_path), out=str(out))
    assert {row.seed for row in complete} == {0, 1}
    table = tmp_path / "samples.1.jsonl"
    table.write_bytes(table.read_bytes()[:-9] + "é".encode()[:1])  # its last row is being written, amid a letter
    assert score(rewards, str(tmp_path), out=str(out), overwrite=True) == complete[:-1]


def test_pictures_without_a_score_are_left_out_and_tried_again(folder: Path, tmp_path: Path) -> None:
    paint(folder / "d.png", 255, mode="L")
    out, lines, blind = tmp_path / "o.jsonl", prompts_file(folder, "x"), Blind()
    with pytest.raises(RewardError, match=f"1 of 4 pictures have no score: {out} has the others"):
        score({"blind": blind}, str(folder), lines, str(out))
    assert len(out.read_text().splitlines()) == 3
    blind.cured = True
    assert [row.rewards["blind"] for row in score({"blind": blind}, str(folder), lines, str(out))][-1] == 1.0


def test_pixels_are_what_people_see(tmp_path: Path) -> None:
    """Transparent is white, a turned camera is turned back, palettes and greys are colours."""
    paint(tmp_path / "a.png", 200, (6, 4), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((6, 4, 3), np.uint8)
    tall[0] = 255
    Image.fromarray(tall).save(tmp_path / "b.png", exif=exif)
    paint(tmp_path / "c.gif", 0, (6, 4), "P")
    entries = find_entries(tmp_path, Path(prompts_file(tmp_path / "x", "p")))
    assert [entry.size for entry in entries] == [(6, 4)] * 3
    images = load_images(entries)
    assert (images[0] == 1).all()
    assert (images[1][:, :, -1] == 1).all()
    assert (images[1][:, :, :-1] == 0).all()


def test_batches_hold_one_size_in_order(folder: Path) -> None:
    entries = find_entries(folder, Path(prompts_file(folder, "x")))
    assert [[entry.path.name for entry in some] for some in batches(entries, 2)] == [
        ["a.png", "b.webp"], ["c.bmp"], ["d.png"]
    ]  # fmt: skip
    assert [len(some) for some in batches(entries, 1)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        (None, None, "no samples.jsonl, and no prompts are given"),
        ("none.txt", None, "no prompts file"),
        ("p.txt", "a\nb", "has 2 prompts for 4 pictures"),
        ("p.jsonl", '{"image": "gone.png", "prompt": "x"}', "no picture .*gone.png"),
        ("p.jsonl", '{"image": "a.png"}', "line 1 has no column prompt"),
        ("p.jsonl", "[1, 2", "line 1 is damaged"),
        ("p.txt", "a", "a.png is torn or no picture .*: remove it"),
    ],
)
def test_bad_input_is_refused_before_anything_is_scored(
    folder: Path, tmp_path: Path, name: str | None, lines: str | None, message: str
) -> None:
    if lines is not None:
        (tmp_path / name).write_text(lines)
    if "a.png is torn" in message:
        (folder / "a.png").write_text("no PNG")
    length, prompts, out = Length(), name and str(tmp_path / name), tmp_path / "o.jsonl"
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        score({"length": length}, str(folder), prompts, str(out))
    assert "\n" not in str(caught.value)
    assert length.asked == 0
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"rewards": {}}, ValueError, "rewards are empty"),
        ({"device": "gpu"}, ValueError, "device is 'gpu', which can't be used here"),
        ({"retries": -1}, ValueError, "retries is -1"),
        ({"timeout": 0.0}, ValueError, "timeout is 0.0"),
        ({"prompts": "nowhere.txt"}, FileNotFoundError, "no prompts file"),
        ({"images": "nowhere"}, FileNotFoundError, "no folder 'nowhere': give"),
        ({"rewards": {"red": Channel(0)}, "overwrite": False}, ValueError, "has scores of length, not of red"),
    ],
)
def test_refused_arguments_overwrite_nothing(
    folder: Path, tmp_path: Path, wrong: dict, error: type[Exception], message: str
) -> None:
    out = tmp_path / "o.jsonl"
    arguments = {"rewards": {"length": Length()}, "images": str(folder), "prompts": prompts_file(folder, "x")}
    arguments["out"] = str(out)
    score(**arguments)
    before = out.read_bytes()
    with pytest.raises(error, match=message) as caught:
        score(**arguments | {"overwrite": True} | wrong)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_table_that_cannot_be_written_is_found_before_anything_is_scored(folder: Path, overwrite: bool) -> None:
    length = Length()
    with pytest.raises((IsADirectoryError, ValueError), match=str(folder)):
        score_length(folder, folder, length, overwrite=overwrite)
    assert length.asked == 0


def test_a_torn_picture_is_named(folder: Path, tmp_path: Path) -> None:
    paint(folder / "z.png", 77, (64, 64))
    torn = (folder / "a.png").stat().st_size // 2 + 20
    (folder / "z.png").write_bytes((folder / "z.png").read_bytes()[:torn])
    with pytest.raises(ValueError, match=r"z.png is (torn|no picture)"):
        score_length(folder, tmp_path / "o.jsonl", Length())


def test_from_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rewards = tmp_path / "o.jsonl", "{small: JPEGCompressibility, colour: {class_path: Colorfulness}}"
    command = ["score", "--rewards", rewards, "--images", str(folder), "--prompts", prompts_file(folder, "x")]
    assert main([*command, "--out", str(out)]) == 0
    assert "colour" in capsys.readouterr().out
    assert read_rows(out)[0]["rewards"].keys() == {"small", "colour"}
    assert main([*command, "--out", str(out), "--batch_size", "0"]) == 2
    assert "batch_size is 0" in capsys.readouterr().err
    assert main(["score", "--rewards", "{a: Nothing}", "--images", "x"]) == 2
    capsys.readouterr()
    assert main(["score", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Score pictures into a file" in shown
    assert all(f"--{name}" in shown for name in ("rewards", "images", "prompts", "out", "retries", "overwrite"))
    assert "Args:" not in shown


def test_from_a_config_file(folder: Path, tmp_path: Path) -> None:
    metric = {"class_path": "torchmetrics.image.TotalVariation", "init_args": {"reduction": "mean"}}
    red = {"class_path": "rewards.FunctionReward", "init_args": {"function": "tests.rewards.conftest.redness"}}
    smooth = {"class_path": "rewards.MetricReward", "init_args": {"metric": metric}}
    settings = {"rewards": {"red": red, "smooth": smooth}, "images": str(folder), "prompts": prompts_file(folder, "x")}
    settings["out"] = str(tmp_path / "o.jsonl")
    (tmp_path / "score.yaml").write_text(yaml.safe_dump(settings))
    assert main(["score", "--config", str(tmp_path / "score.yaml"), "--batch_size", "2"]) == 0
    rows = [row["rewards"] for row in read_rows(tmp_path / "o.jsonl")]
    assert [row["red"] for row in rows] == pytest.approx([0, 0.2, 0.4, 1])
    assert [row["smooth"] for row in rows] == [0, 0, 0, 0]
