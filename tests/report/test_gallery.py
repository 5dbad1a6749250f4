"""Data of the page, its file and its refusals. Its behaviour is in test_gallery_in_a_browser.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from srsoup_lightning.cli.gallery import gallery
from srsoup_lightning.report.gallery import mean_cost, page_data
from srsoup_lightning.report.page import Embedder
from srsoup_lightning.runs.reading import Run, read_runs
from srsoup_lightning.runs.rows import CostRow
from tests.report.runs import change_first_row, read_rows, write_elsewhere, write_rows, write_run


def data_of(*runs: str) -> dict:
    return page_data(read_runs(list(runs)), Embedder(512))


def test_pictures_stand_in_the_order_of_the_front(tmp_path: Path) -> None:
    data = data_of(write_run(tmp_path / "run", divisions=2, prompts=["a cat", "a dog"], seeds=[3]))
    assert (data["rewards"], data["axes"]) == (["red", "blue"], ["red", "blue"])
    assert [prompt["text"] for prompt in data["prompts"]] == ["a cat", "a dog"]
    for picture, weights in zip(data["prompts"][1]["pictures"], ([1, 0], [0.5, 0.5], [0, 1]), strict=True):
        scores = [10 * weight for weight in weights]
        expected = {"run": 0, "seed": 3, "weights": weights, "scores": scores, "failed": []}
        assert picture | expected == picture
    assert [picture["image"] for prompt in data["prompts"] for picture in prompt["pictures"]] == [0, 1, 2, 3, 4, 5]


def test_the_order_is_that_of_weights_and_not_of_rows(tmp_path: Path) -> None:
    run, table = write_run(tmp_path, ("red", "green", "blue"), divisions=2), tmp_path / "samples.jsonl"
    write_rows(table, read_rows(table)[::-1])
    weights = [picture["weights"] for picture in data_of(run)["prompts"][0]["pictures"]]
    assert weights == sorted(weights, reverse=True)


def test_runs_may_differ_in_rewards_prompts_and_seeds(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", ("red", "blue"), 1, ["a cat"], [0])
    other = write_run(tmp_path / "other", ("blue", "green"), 1, ["a dog", "a cat"], [5])
    data = data_of(one, other)
    assert data["axes"] == data["rewards"] == ["red", "blue", "green"]
    cats, dogs = (prompt["pictures"] for prompt in data["prompts"])
    assert [(cat["run"], cat["seed"], cat["weights"], cat["scores"]) for cat in cats] == [
        (0, 0, [1, 0, 0], [10, 0, None]),
        (0, 0, [0, 1, 0], [0, 10, None]),
        (1, 5, [0, 1, 0], [None, 10, 0]),
        (1, 5, [0, 0, 1], [None, 0, 10]),
    ]
    assert {dog["run"] for dog in dogs} == {1}


def test_pictures_without_a_preference_come_last_and_have_no_weights_and_max_side_holds(tmp_path: Path) -> None:
    table = write_elsewhere(tmp_path / "in" / "other.jsonl", width=300, height=100)
    data = page_data(read_runs([table, write_run(tmp_path / "run", divisions=1)]), Embedder(60))
    pictures = data["prompts"][0]["pictures"]
    assert [picture["weights"] for picture in pictures] == [[1, 0], [0, 1], None]
    assert pictures[-1]["scores"] == [2.5, 3.5]
    assert [run["cost"] is None for run in data["runs"]] == [True, False]
    image = data["images"][pictures[-1]["image"]]
    assert (image["width"], image["height"]) == (60, 20)
    with Image.open(tmp_path / "in" / "0.png") as file:
        assert file.size == (300, 100)


def test_failed_rewards_are_named_scores_keep_six_digits_and_rounded_weights_are_taken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", divisions=1)
    scores, weights = {"red": -1.23456789, "blue": 123456789.0}, {"red": 0.666666, "blue": 0.333333}
    change_first_row(Path(run) / "samples.jsonl", failed=["blue"], rewards=scores, preference=weights)
    first, second = data_of(run)["prompts"][0]["pictures"]
    assert (first["failed"], second["failed"]) == (["blue"], [])
    assert first["scores"] == [-1.23457, 123457000.0]
    assert first["weights"] == [0.666666, 0.333333]


def test_mean_costs_by_hand(tmp_path: Path) -> None:
    older = {"queries": {"red": 10, "blue": 20}, "nfe": 8, "seconds": 1.0}  # from before there were hits
    newer = {"queries": {"red": 30, "blue": 0}, "hits": {"red": 3, "blue": 2}, "failures": {"blue": 1}, "nfe": 4}
    costs = [
        CostRow.from_json({"prompt": "a cat", "seed": seed, **row}, "here")
        for seed, row in enumerate((older, newer | {"seconds": 2.0}))
    ]
    expected = {"queries": {"red": 20, "blue": 10}, "hits": 2.5, "failures": 0.5, "nfe": 6, "seconds": 1.5}
    assert mean_cost(Run("x", tmp_path, (), tuple(costs))) == expected
    assert mean_cost(Run("x", tmp_path, ())) is None


def test_the_page_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "pages" / "page.html"
    run = write_run(tmp_path / "run")
    assert gallery([run], str(out), title="first") == out
    gallery([run], str(out), title="second")
    assert "<title>second</title>" in out.read_text()
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None])
def test_a_missing_or_broken_picture_is_named(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = write_run(tmp_path / "run", side=64), tmp_path / "page.html"
    broken = sorted(Path(run).rglob("*.png"))[-1]
    broken.write_bytes(broken.read_bytes()[:-4000] if content is None else content)
    out.write_text("before")
    with pytest.raises(ValueError, match=rf"{broken} is torn or no picture .*: remove it, or make it anew"):
        gallery([run], str(out))
    broken.unlink()
    monkeypatch.setattr(Embedder, "add", lambda *_: pytest.fail("read a picture before all were found"))
    with pytest.raises(FileNotFoundError, match=str(broken)) as error:
        gallery([run], str(out))
    assert "\n" not in str(error.value)
    assert out.read_text() == "before"


@pytest.mark.parametrize(
    ("red", "blue", "message"),
    [
        (-0.5, 1.5, r"run 'run' weighs red by -0.5 for .*: weights are 0 or more"),
        (float("nan"), 1.0, r"line 1 is damaged .NaN is no JSON.: delete that line"),
        (0.5, 0.6, r"run 'run' has weights \{'red': 0.5, 'blue': 0.6\} for .*: they must sum to 1"),
        (float("inf"), 1.0, r"line 1 is damaged .Infinity is no JSON.: delete that line"),
    ],
)
def test_a_preference_off_the_simplex_is_refused(tmp_path: Path, red: float, blue: float, message: str) -> None:
    run = write_run(tmp_path / "run")
    change_first_row(Path(run) / "samples.jsonl", preference={"red": red, "blue": blue})
    with pytest.raises(ValueError, match=message):
        data_of(run)


def test_misuse_is_refused(tmp_path: Path) -> None:
    run, page = write_run(tmp_path / "run"), str(tmp_path / "page.html")
    for error, message, act in (
        (IsADirectoryError, r"give the file to write, such as .*gallery\.html", lambda: gallery([run], str(tmp_path))),
        (ValueError, "no runs: give at least one", lambda: gallery([], page)),
        (ValueError, "max_side is 0: give at least 1 pixel", lambda: gallery([run], page, max_side=0)),
        (FileNotFoundError, "no run", lambda: gallery([str(tmp_path / "none")], page)),
    ):
        with pytest.raises(error, match=message):
            act()
    assert not Path(page).exists()
