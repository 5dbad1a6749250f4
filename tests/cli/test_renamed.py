"""Old names of options: an error names the new one, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.renamed import RENAMED
from srsoup_lightning.runs.directory import RunDirectory
from tests.cli.test_main import MODEL, write_config
from tests.runs.test_directory import make_soup

AUTO = "srsoup_lightning.samplers.Auto"
SHARING = f"model.sampler.init_args.sharing: Auto is a sampler now: write model.sampler: {{class_path: {AUTO}}}"


def nested(key: str, value: object) -> dict:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def refused(command: list[str], message: str, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert main(["-q", *command]) == 2
    assert capsys.readouterr().err == f"srsoup: error: {where}: {message}\n"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_option_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    command = ["compare", "a", "b", "--out", "c"] if old == "bounds" else ["predict"]
    message, config = f"{old} is called {new} now: rename it", tmp_path / "c.yaml"
    for options in ([f"--{old}", "{}"], [f"--{old}.inner=1"], [f"--{old}+", "x"]):
        refused([*command, *options], message, capsys, "the command line")
    head, _, tail = old.rpartition(".")
    for content in (nested(old, {}), {f"{old}.inner": 1}, {head: {f"{tail}.inner": 1}} if head else {old: 1}):
        config.write_text(yaml.safe_dump(content))
        refused([*command, "--config", str(config)], message, capsys, str(config))
    if head:
        refused([*command, f"--{head}", yaml.safe_dump({tail: 1})], message, capsys, "the command line")
        config.write_text(yaml.safe_dump({tail: 1}))
        refused([*command, f"--{head}={config}"], message, capsys, "the command line")
        config.write_text(yaml.safe_dump({"predict": nested(old, 1)}))
        refused([f"--config={config}", *command], message, capsys, str(config))


@pytest.mark.parametrize("value", [AUTO, "Auto", {"class_path": AUTO}, {"class_path": "Auto", "init_args": {}}])
def test_auto_as_a_sharing_policy_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str | dict
) -> None:
    config = tmp_path / "c.yaml"
    for key in ("model.sampler.init_args.sharing", "model.sampler.sharing"):
        config.write_text(yaml.safe_dump(nested(key, value)))
        refused(["plan", "-c", str(config)], SHARING, capsys, str(config))
        refused(["predict", f"--{key}", yaml.safe_dump(value)], SHARING, capsys, "the command line")


@pytest.mark.parametrize("key", ["model.judging.retries", "model.sampler.init_args.sharing.class_path"])
def test_old_options_of_a_run_that_is_continued_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    config, run = write_config(tmp_path, pipeline="no-such-pipeline"), RunDirectory(tmp_path / "run")
    run.write(make_soup())
    run.config.write_text(yaml.safe_dump({"model": MODEL} | nested(key, AUTO)))
    message = SHARING if "sharing" in key else "model.judging is called model.oracle now: rename it"
    refused(["predict", "--config", str(config)], message, capsys, str(run.config))
    assert main(["predict", "--config", str(config), "--writer.overwrite", "true"]) == 2
    assert "no pipeline 'no-such-pipeline'" in capsys.readouterr().err


def test_new_options_and_unreadable_files_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff{")
    assert main(["score", "--config", str(tmp_path / "c.yaml")]) != 0
    assert main(["predict", "--model.oracle.bounds", "{"]) == 2
    assert "now: " not in capsys.readouterr().err
