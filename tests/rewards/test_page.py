"""docs/rewards.md: its code runs, its table is complete, and its numbers are those that were measured."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

import rewards
from rewards import Colorfulness, JPEGIncompressibility, Reward
from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.own_functions import MODE
from srsoup_lightning.oracle import OraclePolicy
from tests.rewards.conftest import pictures, smooth

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rewards.md").read_text()
MEASURED = (ROOT / "benchmarks" / "results" / "rewards.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_reward_has_a_row_and_every_row_a_reward() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(set(rewards.__all__) - {"Reward"})


def test_rows_have_a_cell_for_each_column_and_the_numbers_of_the_benchmark() -> None:
    header = PAGE.index("| reward | what it measures")
    assert {line.count("|") for line in PAGE[header:].split("\n\n")[0].splitlines()} == {8}
    assert set(MEASURED.split("\n")) <= set(PAGE.split("\n"))


def test_the_python_runs() -> None:
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, names)
    images, prompts = names["images"], names["prompts"]
    scores = names["clip"].score(images, prompts)
    expected = (scores.sum() + scores[0]) / 5
    torch.testing.assert_close(names["collection"].compute()["clip"], expected)
    torch.testing.assert_close(names["colorfulness"](images), Colorfulness().score(images, prompts))
    kilobytes = JPEGIncompressibility(quality=80).score(images, prompts)
    torch.testing.assert_close(names["jpeg_kilobytes"](images, quality=80), kilobytes)
    red = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert names["Redness"]().score(red, [""]).tolist() == [1]


@pytest.fixture
def scores_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's scores.py on Python's path, and its reference in the working directory."""
    (code,) = (code for code in blocks("python") if code.startswith("# scores.py\n"))
    (tmp_path / "scores.py").write_text(code)
    pictures(smooth(24, 20)[:1])[0].save(tmp_path / "reference.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("scores_file")
def test_the_yaml_makes_rewards_that_score() -> None:
    parser = ArgumentParser(exit_on_error=False, parser_mode=MODE)
    parser.add_argument("--rewards", type=dict[str, Reward])
    shown = [settings for settings in map(yaml.safe_load, blocks("yaml")) if "rewards" in settings]
    assert len(shown) == 3
    for settings in shown:
        made = parser.instantiate(parser.parse_string(yaml.safe_dump(settings))).rewards
        assert made.keys() == settings["rewards"].keys()
        for reward in made.values():
            assert reward.score(smooth(24, 20), ["a lobster"] * 4).shape == (4,)


def test_the_policy_is_one() -> None:
    (settings,) = (settings for settings in map(yaml.safe_load, blocks("yaml")) if "oracle" in settings)
    assert OraclePolicy(**settings["oracle"]) == OraclePolicy("worst", retries=2, timeout=60, cached=["clip"])


def test_the_command_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = blocks("bash")
    (tmp_path / "pictures").mkdir()
    pictures(smooth(24, 20)[:1])[0].save(tmp_path / "pictures" / "a.png")
    (tmp_path / "prompts.txt").write_text("a lobster\n")
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command.replace("\\\n", ""))
    assert program == "srsoup"
    assert main(arguments) == 0
    (row,) = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert row["rewards"].keys() == {"clip", "light"}
