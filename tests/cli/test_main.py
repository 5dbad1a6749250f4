from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srsoup_lightning import __version__
from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.directory import RunDirectory

MODEL = {
    "pipeline": {"class_path": "tests.conftest.MixtureBackbone"},
    "rewards": {
        "red": {"class_path": "tests.conftest.Channel", "init_args": {"channel": 0}},
        "blue": {"class_path": "tests.conftest.Channel", "init_args": {"channel": 2}},
    },
    "sampler": {
        "class_path": "srsoup_lightning.samplers.SRSoup",
        "init_args": {
            "num_inference_steps": 5,
            "candidates": 4,
            "sharing": {"class_path": "srsoup_lightning.samplers.FixedSoup"},
        },
    },
    "preferences": {
        "class_path": "srsoup_lightning.Preferences.lattice",
        "init_args": {"rewards": ["red", "blue"], "divisions": 2},
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mixture.yaml"
    settings = {
        "model": MODEL,
        "data": {"prompts": ["a cat", "a dog"], "seeds": [0]},
        "trainer": {"accelerator": "cpu", "default_root_dir": str(tmp_path / "run")},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def srsoup(config: Path, *options: str) -> int:
    return main(["predict", "--config", str(config), *options])


def test_a_run_leaves_what_the_contract_says(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert srsoup(config, "--model.sampler.candidates", "6") == 0
    run = RunDirectory(config.parent / "run")
    assert {path.name for path in run.root.iterdir()} == {
        ".lock",
        "config.yaml",
        "samples",
        "samples.jsonl",
        "ledger.jsonl",
        "sheets",
        "tensorboard",
    }
    assert len(list(run.image_rows())) == 2 * 3
    assert yaml.safe_load(run.config.read_text())["model"]["sampler"]["init_args"]["candidates"] == 6
    assert "hypervolume" in capsys.readouterr().out


def event_files(root: Path) -> list[str]:
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("events.out.tfevents.*")})


def test_charts_are_in_the_run_directory_with_the_box_of_the_summary(config: Path) -> None:
    root = config.parent / "run"
    assert srsoup(config, "--summary.box", "{red: [0, 1], blue: [0, 1]}", "--tensorboard.curves", "1") == 0
    assert {"tensorboard", "tensorboard/front", "tensorboard/front/red1-blue0"} <= set(event_files(root))
    events = EventAccumulator(str(root / "tensorboard/front/red1-blue0")).Reload()
    assert {"hypervolume", "utility"} <= set(events.Tags()["scalars"])
    assert len(list((root / "tensorboard/denoising").glob("*/0"))) == 1


def test_charts_can_be_left_out_or_put_elsewhere(config: Path) -> None:
    assert srsoup(config, "--trainer.logger", "false") == 0
    assert not event_files(config.parent)
    logger = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"}
    logger["init_args"] = {"save_dir": str(config.parent / "mine"), "name": "soups", "version": "one"}
    assert srsoup(config, "--writer.overwrite", "true", "--trainer.logger", yaml.safe_dump(logger)) == 0
    assert {name.split("/")[0] for name in event_files(config.parent)} == {"mine"}
    assert "mine/soups/one/front/red1-blue0" in event_files(config.parent)


def test_a_plan_opens_no_event_files(config: Path) -> None:
    assert main(["plan", "--config", str(config)]) == 0
    assert not (config.parent / "run").exists()


def test_the_saved_config_makes_the_same_run_again(config: Path) -> None:
    assert srsoup(config) == 0
    first, again = RunDirectory(config.parent / "run"), RunDirectory(config.parent / "again")
    assert srsoup(first.config, "--trainer.default_root_dir", str(again.root)) == 0
    assert first.samples.read_bytes() == again.samples.read_bytes()
    for row in first.image_rows():
        assert (first.root / row.image).read_bytes() == (again.root / row.image).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.sampler.candidates", "0"], "candidates is 0"),
        (["--model.sampler.candidates", "5", "--model.sampler.antithetic", "true"], "candidates is 5, odd"),
        (["--model.sampler.shaping", "best"], "best"),
        (["--model.sampler", "srsoup_lightning.samplers.Sooup"], "Sooup"),
        (["--model.sampler.sharing", "{class_path: FixedSoup, init_args: {start: 5, end: 2}}"], "FixedSoup(5, 2)"),
        (["--model.pipeline", "tiny-unicorns"], "no pipeline 'tiny-unicorns'"),
        (["--model.pipeline", "/no/such/folder"], "no pipeline '/no/such/folder'"),
        (["--data.prompts", "[]"], "no prompts"),
        (["--data.prompts", "nowhere.txt"], "nowhere.txt"),
        (["--model.guidancee", "3"], "guidancee"),
        (["--model.preferences.init_args.divisions", "0"], "divisions is 0"),
        (["--model.preferences.init_args.rewards", "[red, green]"], "green"),
        (["--summary.box", "{red: [0, 1]}"], "bounds"),
        (["--model.run_limits.max_queries", "0"], "max_queries is 0: give a number above 0"),
        (["--model.soup_limits.max_seconds", "-1"], "max_seconds is -1.0: give a number above 0"),
        (["--model.run_limits.max_nfe", "many"], "many"),
        (["--model.oracle.budgets", "{red: 0}"], "the budget of 'red' is 0"),
        (["--model.oracle.budgets", "{green: 9}"], "oracle.budgets names 'green', but the rewards are red, blue"),
    ],
)
def test_misuse_gets_one_line_before_any_sampling(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert srsoup(config, *options) != 0
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("srsoup: error: ")
    assert message in line
    assert not RunDirectory(config.parent / "run").samples.exists()


def test_a_second_run_into_one_directory_is_refused_and_changes_nothing(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert srsoup(config) == 0
    root = config.parent / "run"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert srsoup(config, "--model.sampler.candidates", "6") == 1
    assert (
        "holds a run of another config (model.sampler.init_args.candidates was 4, now 6): change it back"
        in capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ([0.5, 0.6], "sums to 1.1"),
        ({"green": 1.0}, "names ['green']"),
        ([-0.5, 1.5], "leaves the simplex"),
        ([1.0], "has 1 weights"),
    ],
)
def test_a_preference_off_the_simplex_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], point: object, message: str
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["model"]["preferences"] = {
        "class_path": "srsoup_lightning.Preferences",
        "init_args": {"rewards": ["red", "blue"], "weights": [point]},
    }
    config.write_text(yaml.safe_dump(settings))
    assert srsoup(config) != 0
    assert message in capsys.readouterr().err


def test_a_failing_reward_keeps_what_was_finished(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["model"]["rewards"]["blue"] = {
        "class_path": "tests.conftest.Broken",
        "init_args": {"way": "nan", "after": 5},
    }
    config.write_text(yaml.safe_dump(settings))
    assert srsoup(config) == 1
    error = capsys.readouterr().err
    assert "reward 'blue' returned nan at denoising step 1" in error
    assert "'a dog'" in error
    assert [row.prompt for row in RunDirectory(config.parent / "run").cost_rows()] == ["a cat"]


def test_an_interruption_is_no_crash(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.conftest.Channel.score", interrupt)
    assert srsoup(config) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stop", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_real_signal_keeps_the_finished_soups_and_says_so(
    config: Path, stop: signal.Signals, code: int, said: str
) -> None:
    run = RunDirectory(config.parent / "run")
    # A shell's background jobs ignore SIGINT; a preexec_fn that changes it may hang in a process with threads.
    listens = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    starts = "runpy.run_module('srsoup_lightning', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", listens + starts, "predict", "--config", str(config)]
    command += ["--data.seeds", str(list(range(1_000)))]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        deadline = time.monotonic() + 60
        while not run.ledger.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"srsoup: error: {said}: what was finished is kept")
    assert "Traceback" not in errors
    rows = list(run.image_rows())
    assert rows
    assert all((run.root / row.image).exists() for row in rows)


def test_unknown_configs_are_answered_by_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", "animal"]) == 1
    assert "animals" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"srsoup {__version__}"


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    assert "--model.negative_prompt" in capsys.readouterr().out


def test_nothing_here_reads_the_process_arguments(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--nonsense"])
    assert srsoup(config) == 0


@pytest.mark.parametrize(("prompts", "ending"), [("[a cat]", 0), ("missing.txt", 1)])
def test_what_a_program_around_it_logs_is_its_own_business(config: Path, prompts: str, ending: int) -> None:
    names = ("lightning.pytorch", "lightning.fabric", "srsoup_lightning.module")
    before = [logging.getLogger(name).level for name in names], list(warnings.filters)
    assert srsoup(config, f"--data.prompts={prompts}") == ending
    assert ([logging.getLogger(name).level for name in names], list(warnings.filters)) == before
