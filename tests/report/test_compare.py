"""Comparisons of made-up runs, whose measures are known by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from PIL import Image

from srsoup_lightning.cli import compare as command
from srsoup_lightning.cli.compare import compare
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.report import compare as module
from srsoup_lightning.report.compare import compared
from srsoup_lightning.runs.adapter import AdapterFacts, UsedAdapter, write_used_adapters
from tests.report.runs import LINE, Weights, change_first_row, make_run, read_rows, write_rows

HEAD = "run,measure,mean,low,high,prompts,difference,difference_low,difference_high"
BOX = {"jpeg": (0.0, 4.0), "clip": (0.0, 4.0)}


def steered(strength: float) -> object:
    """Rewards that are `strength` times their weights, one more for the dog."""
    return lambda prompt, seed, weights: [strength * weight + (prompt == "a dog") for weight in weights]


def unsteered(prompt: str, seed: int, weights: Weights) -> list[float]:
    """Mean 1 and standard deviation sqrt(2) over seeds 0 and 1, whatever the preference."""
    return [2.0 * seed, 2.0 - 2.0 * seed]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables alone, in a tenth of the time."""
    monkeypatch.setattr(command, "write_figures", lambda *arguments: [])


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """SVG files alone, in half of the time; PNG files are empty."""
    save = Figure.savefig

    def savefig(figure: Figure, path: Path, **options: object) -> None:
        save(figure, path, **options) if path.suffix == ".svg" else path.touch()

    monkeypatch.setattr(Figure, "savefig", savefig)


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        return {(row["run"], row["measure"]): row for row in csv.DictReader(file)}


@pytest.mark.usefixtures("undrawn")
def test_measures_are_those_found_by_hand(tmp_path: Path) -> None:
    strong, weak = make_run(tmp_path / "strong", steered(3)), make_run(tmp_path / "weak", steered(1))
    compare([strong, weak], str(tmp_path / "out"), box=BOX)
    assert (tmp_path / "out" / "comparison.csv").read_text().splitlines()[0] == HEAD
    found = rows(tmp_path / "out")

    def mean(run: str, measure: str) -> float:
        return float(found[run, measure]["mean"])

    # cat: (3, 0), (1.5, 1.5), (0, 3) of a box of 4 by 4, of which the ends have no area; dog: one more in each
    assert mean("strong", "hypervolume") == pytest.approx((1.5 * 1.5 + 4 * 1 + 2.5 * 1.5 + 1 * 1.5) / 16 / 2)
    exact = {"igd_plus": 0, "seed_diversity": 0, "queries": 50, "nfe": 100, "seconds": 2}
    assert {measure: mean("strong", measure) for measure in exact} == exact
    close = {"spread": 3 / 4, "utility": ((3 + 1.5 + 3) / 3 + 0.5) / 4, "monotonicity_jpeg": 1, "mean_clip": 2}
    assert {measure: mean("strong", measure) for measure in close} == pytest.approx(close)
    assert mean("weak", "igd_plus") == pytest.approx((2 + 2**0.5 + 2) / 3 / 4)
    assert mean("strong", "diversity") == pytest.approx((127 + 128 + 255) / 255 / 3, abs=1e-3)
    assert (found["strong", "utility"]["prompts"], found["strong", "utility"]["difference"]) == ("2", "")
    # each prompt differs by as much, though utilities don't agree
    for column in ("difference", "difference_low", "difference_high"):
        assert float(found["weak", "utility"][column]) == pytest.approx(-(2 + 1 + 2) / 3 / 4)
    assert ("strong", "hits") not in found


def test_a_baseline_gives_the_unit_and_the_box_of_each_prompt(tmp_path: Path) -> None:
    base, run = make_run(tmp_path / "base", unsteered), make_run(tmp_path / "run", steered(3))
    found = compared([base, run], baseline="base")
    assert found.units.source == "from -2 to +6 standard deviations around the mean of base for each prompt"
    told = found.units.corners()["a cat"]
    for name in ("jpeg", "clip"):  # three preferences of a seed are one picture: else the deviation would be sqrt(1.2)
        assert told[name] == pytest.approx([1 - 2 * 2**0.5, 1 + 6 * 2**0.5])
    worth = [run.values["utility"]["a cat"][0] for run in found.runs]
    assert worth == pytest.approx([0, ((3 + 1.5 + 3) / 3 - 1) / 2**0.5])
    # one point a seed, 1 / sqrt(2) below and above the mean: (2 - 1 / sqrt(2)) (2 + 1 / sqrt(2)) of 8 by 8
    assert found.runs[0].values["hypervolume"]["a cat"] == pytest.approx([(4 - 1 / 2) / 64] * 2)
    assert not any(measure.startswith("monotonicity") for measure in found.runs[0].values)


def test_without_a_baseline_the_box_is_that_of_all_extremes(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name, steered(strength)) for name, strength in (("strong", 3), ("weak", 1))]
    found, boxed = compared(paths), compared(paths, box=BOX)
    assert list(found.units.corners().values()) == [{"jpeg": [0, 4], "clip": [0, 4]}] * 2
    assert [run.values for run in found.runs] == [run.values for run in boxed.runs]


def test_pictures_from_elsewhere_have_no_utility(tmp_path: Path) -> None:
    path, _ = make_run(tmp_path / "ours", steered(3)), make_run(tmp_path / "theirs", steered(1), seeds=(0,))
    table = tmp_path / "theirs" / "theirs.jsonl"
    scored = read_rows(table.with_name("samples.jsonl"))
    write_rows(table, [{key: row[key] for key in ("prompt", "image", "rewards")} for row in scored])
    ours, theirs = compared([path, str(table)], box=BOX).runs
    assert {"hypervolume", "igd_plus", "spread", "diversity"} <= set(theirs.values)
    assert not {"utility", "monotonicity_jpeg", "queries", "seed_diversity"} & set(theirs.values)
    assert "utility" in ours.values
    assert theirs.values["hypervolume"]["a cat"] == [pytest.approx(0.25 / 16)]


def rewrite(run: str, change: object) -> None:
    """Change every row of samples.jsonl."""
    table = Path(run) / "samples.jsonl"
    write_rows(table, [row | change(row) for row in read_rows(table)])


@pytest.mark.parametrize(("pictures", "expected"), [(1, [1, 1]), (2, [])])
def test_seeds_are_compared_where_their_pictures_match(tmp_path: Path, pictures: int, expected: list[float]) -> None:
    """Black at seed 0 and white at seed 1; of two pictures a seed without preferences, nobody knows which match."""
    path = make_run(tmp_path / "run", steered(3), preferences=LINE[:pictures])
    for row in read_rows(tmp_path / "run" / "samples.jsonl"):
        Image.new("RGB", (8, 8), (255 * row["seed"],) * 3).save(tmp_path / "run" / row["image"])
    rewrite(path, lambda row: {"preference": {}})
    values = compared([path], box=BOX).runs[0].values
    found = [distance for distances in values.get("seed_diversity", {}).values() for distance in distances]
    assert found == pytest.approx(expected)


def test_equal_pictures_of_a_front_are_embedded_once(tmp_path: Path) -> None:
    """Two black pictures and a white one: of three pairs, two have the distance 1 and one has none."""
    path = make_run(tmp_path / "run", steered(3), prompts=["a cat"], seeds=[0])
    for row, level in zip(read_rows(tmp_path / "run" / "samples.jsonl"), (0, 255, 0), strict=True):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "run" / row["image"])
    seen = []

    def embedding(images: torch.Tensor) -> torch.Tensor:
        seen.extend(images)
        return images.mean((1, 2, 3)).unsqueeze(1)

    found = compared([path], box=BOX, embedding=embedding).runs[0].values["diversity"]
    assert found == {"a cat": [pytest.approx(2 / 3)]}
    assert len(seen) == 2


@pytest.mark.parametrize("changed", [{"preference": {"other": 1.0}}, {"seed": None, "preference": None}])
def test_unknown_preferences_give_no_utility(tmp_path: Path, changed: dict) -> None:
    rewrite(path := make_run(tmp_path, steered(3), prompts=["a cat"], seeds=[0]), lambda row: changed)
    values = compared([path], box=BOX).runs[0].values
    assert values["pictures"] == {"a cat": [3]}
    assert "utility" not in values


def test_utility_is_over_the_preferences_that_all_share(tmp_path: Path) -> None:
    ends, line, middle = (
        make_run(tmp_path / name, steered(3), preferences=preferences)
        for name, preferences in {"ends": LINE[::2], "line": LINE, "middle": LINE[1:2]}.items()
    )
    found = compared([ends, line], box=BOX)
    assert found.runs[0].values["utility"] == found.runs[1].values["utility"]
    assert "utility is the mean over the 2 preferences that all runs with preferences share" in found.notes
    assert "other numbers of pictures a front, where more can only raise hypervolume: ends 2, line 3" in found.notes
    unshared = compared([ends, middle], box=BOX)
    assert "no utility: the runs share no preference" in unshared.notes
    assert "utility" not in unshared.measures()


def test_a_reward_that_nobody_weighs_is_held_out(tmp_path: Path) -> None:
    """Fronts are measured without it, those of pictures without preferences too, and its mean stands beside them."""
    line, rewards = [(*weights, 0.0) for weights in LINE], ("jpeg", "clip", "colour")

    def scores(prompt: str, seed: int, weights: Weights) -> list[float]:
        return [*steered(3)(prompt, seed, weights[:2]), 7.0]

    without = make_run(tmp_path / "without", steered(3))
    path = make_run(tmp_path / "run", scores, preferences=line, rewards=rewards)
    table = tmp_path / "run" / "elsewhere.jsonl"
    write_rows(
        table,
        [
            {key: row[key] for key in ("prompt", "image", "rewards")}
            for row in read_rows(table.with_name("samples.jsonl"))
        ],
    )
    run, elsewhere = compared([path, str(table)], box=BOX).runs
    expected = compared([without], box=BOX).runs[0].values
    assert run.values == expected | {"mean_colour": {"a cat": [7.0] * 2, "a dog": [7.0] * 2}}
    assert elsewhere.values["hypervolume"]["a cat"] == expected["hypervolume"]["a cat"][:1]


def test_hits_failures_and_stand_ins_are_told(tmp_path: Path) -> None:
    cost = {"queries": {"jpeg": 3}, "hits": {"jpeg": 4, "clip": 1}, "failures": {"clip": 2}, "nfe": 1, "seconds": 1.0}
    path = make_run(tmp_path / "run", steered(3), cost=cost)
    change_first_row(tmp_path / "run" / "samples.jsonl", failed=["clip"])
    found = compared([path], box=BOX)
    assert found.runs[0].values["hits"]["a cat"] == [5, 5]
    assert found.runs[0].values["failures"]["a cat"] == [2, 2]
    assert {"hits", "failures"} <= set(found.measures())
    assert "pictures with the worst score in place of one that failed: run 1" in found.notes


@pytest.mark.usefixtures("undrawn")
def test_training_costs_stand_apart_where_a_run_has_loras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    soup, tuned, styled = (make_run(tmp_path / name, steered(3)) for name in ("soup", "tuned", "styled"))
    compare([soup], str(tmp_path / "before"), box=BOX)
    spent = [Ledger(queries={"jpeg": 800, "clip": 200}, nfe=5000, gradients=300, seconds=60.0), Ledger(nfe=1000)]
    facts = [AdapterFacts(base="b", objective="DRaFT", preference={}, rounds=9, costs=costs) for costs in spent]
    known = [UsedAdapter(source=str(number), weight=1.0, facts=each) for number, each in enumerate(facts)]
    unknown = UsedAdapter(source="a/style", weight=0.5, facts=None)
    write_used_adapters(Path(tuned) / "adapters.json", known)
    write_used_adapters(Path(styled) / "adapters.json", [*known, unknown])
    compare([soup, tuned, styled], str(tmp_path / "out"), box=BOX)
    found = rows(tmp_path / "out")
    expected = {"queries": 1000, "nfe": 6000, "gradients": 300, "seconds": 60}
    columns = ("mean", "low", "high", "prompts", "difference", "difference_low")
    for name, total in expected.items():
        measure = f"training_{name}"
        assert float(found["soup", measure]["mean"]) == 0
        told = [found["tuned", measure][column] for column in columns]
        assert [*map(float, (told[0], told[4])), *told[1:4], told[5]] == [total, total, "", "", "", ""]
        assert {found["styled", measure][column] for column in columns} == {""}
    assert [found[name, "nfe"]["mean"] for name in ("soup", "tuned", "styled")] == ["100.0"] * 3
    shown = capsys.readouterr().out
    assert re.search(r"training_nfe ↓ +│ +0 +│ +6,000 +│ +unknown", shown)
    assert "training costs are unknown of styled (a/style)" in shown
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert told["runs"]["tuned"]["adapters"][0]["facts"]["costs"]["queries"] == {"jpeg": 800, "clip": 200}
    assert [row["mean"] for row in told["measures"] if row["measure"] == "training_nfe"] == [0, 6000, None]
    assert not any("training" in measure for _, measure in rows(tmp_path / "before"))
    assert "adapters" not in json.loads((tmp_path / "before" / "comparison.json").read_text())["runs"]["soup"]


@pytest.mark.usefixtures("undrawn")
def test_the_csv_quotes_every_character_that_ends_a_line(tmp_path: Path) -> None:
    name = 'a\rb, "c"\nd'
    compare([f"{name}={make_run(tmp_path / 'run', steered(3))}"], str(tmp_path / "out"), box=BOX)
    text = (tmp_path / "out" / "comparison.csv").read_bytes().decode()
    assert {row["run"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {name}
    assert text.startswith(f"{HEAD}\n")


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("rewards", [("jpeg",), ("jpeg", "clip", "colour")])
def test_any_number_of_rewards_and_any_prompt(tmp_path: Path, rewards: tuple[str, ...]) -> None:
    prompts = ["猫 🐈\u200d⬛", 'a "cat", a dog\nand a café', ""]
    options = {"rewards": rewards, "preferences": torch.eye(len(rewards)).tolist()}
    if len(rewards) > 1:
        options["cost"] = None  # the front is drawn then, and not the costs too
    paths = [make_run(tmp_path / name, steered(k), prompts, **options) for name, k in (("a [bold]", 2), ("b", 1))]
    compare(paths, str(tmp_path / "out"), box=dict.fromkeys(rewards, (-1.0, 3.0)))
    found = rows(tmp_path / "out")
    # one reward: 3 of 4; three: the corners (2, 0, 0) with one of (3, 1, 1)-like boxes and two overlaps taken off
    expected = {1: 3 / 4, 3: (3 * 3 - 2) / 64}[len(rewards)]
    assert float(found["a [bold]", "hypervolume"]["mean"]) == pytest.approx(expected)
    assert set(json.loads((tmp_path / "out" / "comparison.json").read_text())["reference_fronts"]) == set(prompts)
    assert (tmp_path / "out" / "front.png").exists() == (len(rewards) > 1)


@pytest.mark.usefixtures("sketched")
def test_a_single_picture_and_prompt_has_no_interval(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steered(3), prompts=["a cat"], seeds=[7], preferences=[(0.5, 0.5)])
    compare([path], str(tmp_path / "out"), box=BOX)
    found = rows(tmp_path / "out")
    volume = found["run", "hypervolume"]
    assert (float(volume["mean"]), volume["low"], volume["high"]) == (pytest.approx(1.5 * 1.5 / 16), "", "")
    assert ("run", "diversity") not in found
    assert "one prompt" in json.loads((tmp_path / "out" / "comparison.json").read_text())["notes"][0]


def test_figures_are_complete_and_the_same_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runs = [make_run(tmp_path / name, steered(strength)) for name, strength in (("strong", 3), ("weak", 1))]
    runs.append(make_run(tmp_path / "base", unsteered, cost=None))
    compare(runs, str(tmp_path / "once"), baseline="base")
    request.getfixturevalue("sketched")
    compare(runs, str(tmp_path / "again"), baseline="base")
    for name in ("front", "hypervolume"):
        assert (tmp_path / "once" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        text = (tmp_path / "once" / f"{name}.svg").read_text()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert all(f"<!-- {label} -->" in text for label in ("strong", "weak", "base"))
        assert text == (tmp_path / "again" / f"{name}.svg").read_text()
        with Image.open(tmp_path / "once" / f"{name}.png") as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20


def test_every_format_marks_what_is_better_and_best_and_tells_units_samples_and_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    paths = [
        f"a_|*={make_run(tmp_path / 'a', steered(3))}",
        make_run(tmp_path / "b", steered(1), seeds=(0,), cost=None),
    ]
    options = {"box": BOX, "measures": ["utility", "spread", "queries", "igd_plus"], "figures": False}
    for kind in ("latex", "markdown"):
        compare(paths, str(tmp_path), format=kind, **options)
    latex, markdown = ((tmp_path / f"comparison.{suffix}").read_text() for suffix in ("tex", "md"))
    shown, box = capsys.readouterr().out, "box of the hypervolume: the given box, jpeg 0 to 4, clip 0 to 4"
    assert all(box in text for text in (latex, markdown, shown))
    assert "means over 2 prompts, 95 % bootstrap intervals in parentheses, the best in bold" in markdown
    _, _, utility, spread, queries, igd = (line for line in markdown.splitlines() if line.startswith("|"))
    assert markdown.count("4 fronts of 3 pictures") == latex.count("4 fronts of 3 pictures") == 1
    assert r"| a\_\|\*<br>4 fronts of 3 pictures | b<br>2 fronts of 3 pictures |" in markdown
    assert utility.startswith("| utility ↑<br>shares of the box | **0.75** (0.625 to 0.875) | 0.333 (")
    assert spread == "| spread<br>sides of the box | 0.75 | 0.25 |"
    assert queries == "| queries ↓<br>a front | 50 |  |"
    assert igd.startswith(r"| igd\_plus ↓<br>sides of the box | **0** |")
    assert r"measure & a\_\textbar{}* & b \\" in latex
    assert r"igd\_plus $\downarrow$ {\footnotesize sides of the box} & \textbf{0} & 0.451 \\" in latex
    assert re.search(r"utility ↑ +│ +0.75 │ +0.333 │\n│ shares of the box +│ +0.625 to 0.875 │", shown)
    with pytest.raises(ValueError, match="there is no measure 'area' in this comparison: give some of hyper"):
        compare(paths, str(tmp_path), **options | {"measures": ["area"]})


@pytest.mark.usefixtures("undrawn")
def test_the_json_says_what_the_numbers_rest_on(tmp_path: Path) -> None:
    """The command line asks for it."""
    path, box = make_run(tmp_path / "run", steered(3)), json.dumps({name: list(pair) for name, pair in BOX.items()})
    options = ["--box", box, "--common", "true", "--embedding=srsoup_lightning.pareto.thumbnails"]
    auto_cli(compare, args=[json.dumps([f"ours={path}"]), str(tmp_path / "out"), *options])
    assert float(rows(tmp_path / "out")["ours", "mean_jpeg"]["mean"]) == pytest.approx(2)
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert told["scaling"]["source"] == "the given box"
    assert told["scaling"]["box"]["a dog"] == {"jpeg": [0, 4], "clip": [0, 4]}
    assert told["differences_to"] == "ours"
    assert told["runs"]["ours"]["total_queries"] == {"jpeg": 120, "clip": 80}
    by_preference = {row["preference"]["jpeg"]: row["mean"] for row in told["runs"]["ours"]["utility_by_preference"]}
    assert by_preference == pytest.approx({1.0: 3.5 / 4, 0.5: 2 / 4, 0.0: 3.5 / 4})
    assert {"srsoup-lightning", "torch", "moocore"} <= set(told["versions"])


def test_tables_need_no_matplotlib_and_misuse_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'srsoup-lightning\[report\]'"):
        compare([make_run(tmp_path / "run", steered(3))], str(tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.csv", "comparison.json"}
    compare([str(tmp_path / "run")], str(tmp_path / "out"), figures=False)
    with pytest.raises(ValueError, match="no runs: give at least one"):
        compared([])
    with pytest.raises(NotADirectoryError, match=r"out is .*csv, a file: give a folder"):
        compare([], str(tmp_path / "out" / "comparison.csv"))


def test_runs_with_a_difference_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = make_run(tmp_path / "first", steered(3)), tmp_path / "other"
    one = compared([first, make_run(other, steered(3), prompts=["a dog"])], box=BOX, common=True).runs
    assert one[0].values == one[1].values
    assert len(one[0].run.costs) == 2
    monkeypatch.setattr(module, "measured", lambda *arguments: pytest.fail("measured before all was checked"))
    refusals = {
        "runs 'first' and 'other' have other prompts, 'first' alone has 1, one of them 'a dog'": {"prompts": ["a cat"]},
        "have other prompts, 'other' alone has 1, one of them 'a cow'": {"prompts": ["a cat", "a dog", "a cow"]},
        r"have other rewards, \['jpeg', 'clip'\] and \['jpeg', 'hps'\]": {"rewards": ["jpeg", "hps"]},
        r"have pictures of other sizes, .* 8x8 and .* 16x8": {"size": (16, 8)},
        "have no prompt in common": {"prompts": ["a cow"]},
    }
    for message, options in refusals.items():
        with pytest.raises(ValueError, match=message) as caught:
            compared([first, make_run(other, steered(3), **options)], common="in common" in message)
        assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_is_named_and_the_one_here_does_not_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_run(tmp_path / "run", steered(2)))
    for given in ("nowhere", "name=nowhere"):
        with pytest.raises(FileNotFoundError, match="no run 'nowhere': give"):
            compared([given])


@pytest.mark.parametrize(
    ("options", "rewards", "message"),
    [
        ({"baseline": "run", "box": BOX}, {}, "baseline is 'run' and there is a box too"),
        ({"baseline": "base"}, {}, r"baseline 'base' is none of the runs: name one of \['run'\]"),
        ({"baseline": "run"}, {}, "baseline 'run' has 1 different pictures of 'a cat'"),
        ({"box": {"jpeg": (0.0, 1.0)}}, {}, r"box leaves out \['clip'\]: give \[low, high\] for each of"),
        ({"box": {**BOX, "hps": (0.0, 1.0)}}, {}, "and no other"),
        ({"box": {**BOX, "clip": (1.0, 1.0)}}, {}, r"box of clip is \[1.0, 1.0\]"),
        ({"box": {**BOX, "clip": (0.0, float("nan"))}}, {}, "box of clip is"),
        ({}, {}, "all pictures of all runs have jpeg 2: give --box"),
        ({"box": BOX}, {"jpeg": 1.0, "clip": float("nan")}, "line 2 is damaged .NaN is no JSON.: delete that line"),
        ({"box": BOX}, {"jpeg": 1.0, "clip": None}, "line 2 has clip None: give a finite number"),
        ({"box": BOX}, {"jpeg": 1.0}, r"line 2 has the rewards \['jpeg'\] and line 1 \['jpeg', 'clip'\]"),
    ],
)
def test_units_and_rows_that_cannot_be_are_refused(tmp_path: Path, options: dict, rewards: dict, message: str) -> None:
    path, table = make_run(tmp_path / "run", lambda *_: [2.0, 2.0], seeds=[0]), tmp_path / "run" / "samples.jsonl"
    if rewards:
        first = read_rows(table)[0]
        write_rows(table, [first, first | {"rewards": rewards}])
    with pytest.raises(ValueError, match=message):
        compared([path], **options)


def test_a_run_under_way_shows_the_finished_soups_of_all_its_processes(tmp_path: Path) -> None:
    complete, under_way = (make_run(tmp_path / name, steered(2)) for name in ("complete", "under way"))
    for table in (Path(under_way) / "samples.jsonl", Path(under_way) / "ledger.jsonl"):
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join([*lines[: len(lines) // 2], '{"prompt": "a c']))
        table.with_name(f"{table.stem}.1.jsonl").write_text("".join(lines[len(lines) // 2 :]))
    one, other = compared([complete, under_way], box=BOX).runs
    assert one.values == other.values
