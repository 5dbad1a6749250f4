"""``srsoup verify`` finds every kind of damage, and nothing in a whole run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from srsoup_lightning.cli.main import main
from tests.cli.test_main import write_config
from tests.report.runs import change_first_row


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_config(tmp_path_factory.mktemp("verified"))
    assert main(["predict", "--config", str(config), "--trainer.logger", "false"]) == 0
    return config.parent / "run"


def pictures(run: Path) -> list[Path]:
    return sorted((run / "samples").rglob("*.png"))


def flip_a_bit(run: Path) -> None:
    content = bytearray(pictures(run)[0].read_bytes())
    content[-20] ^= 1
    pictures(run)[0].write_bytes(content)


def drop_a_cost_row(run: Path) -> None:
    rows = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    (run / "ledger.jsonl").write_text("".join(rows[1:]))


def drop_an_image_row(run: Path) -> None:
    rows = (run / "samples.jsonl").read_text().splitlines(keepends=True)
    (run / "samples.jsonl").write_text("".join(rows[1:]))


def of_another_run(run: Path) -> None:
    change_first_row(run / "ledger.jsonl", run="f" * 32)


def other_facts(run: Path) -> None:
    identity = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(identity | {"facts": {}}))


def spoil_facts(run: Path) -> None:
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter.json").write_text("{}")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (flip_a_bit, "is not the picture of its row, by its checksum"),
    "another preference's picture": (
        lambda run: shutil.copy(pictures(run)[0], pictures(run)[1]),
        "is not the picture of its row",
    ),
    "no picture": (lambda run: pictures(run)[0].unlink(), "is missing: the same command makes its soup again"),
    "a picture of nobody": (lambda run: shutil.copy(pictures(run)[0], pictures(run)[0].parent / "x.png"), "has no row"),
    "no cost row": (drop_a_cost_row, "is not finished"),
    "no image row": (drop_an_image_row, "has 2 of 3 pictures"),
    "a row of another run": (of_another_run, f"is of another run, {'f' * 32}"),
    "no identity": (lambda run: (run / "run.json").unlink(), "nothing tells which run made the pictures"),
    "other facts": (other_facts, "its id is not that of its facts"),
    "a torn row": (lambda run: (run / "ledger.jsonl").write_text('{"prompt": \n{}\n'), "line 1 is damaged"),
    "impossible costs": (lambda run: change_first_row(run / "ledger.jsonl", nfe=-1), "has nfe -1: costs are 0 or more"),
    "impossible spending": (lambda run: (run / "spending.json").write_text('{"spent": {"a": -1}}'), "a is -1"),
    "impossible facts of a training": (spoil_facts, "adapter.json is damaged"),
    "impossible LoRAs": (lambda run: (run / "adapters.json").write_text("[{}]"), "adapters.json is damaged"),
    "no options": (lambda run: (run / "config.yaml").write_text(""), "it has no options"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(whole: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    spoil, message = DAMAGE[name]
    spoil(run)
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    shown = capsys.readouterr()
    assert message in shown.out
    assert f"problems in {run}" in shown.err


def test_a_whole_run_has_no_problems(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(whole)]) == 0
    assert capsys.readouterr().out == f"{whole}: 2 soups, 6 pictures, all whole\n"
    assert main(["verify", str(tmp_path)]) == 2
    assert "no run" in capsys.readouterr().err
