from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srsoup_lightning import __version__
from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.directory import RunDirectory

MODEL: dict[str, Any] = {
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
            "max_batch": 64,
            "sharing": {"class_path": "srsoup_lightning.samplers.FixedSoup", "init_args": {"start": 0, "end": 20}},
        },
    },
    "preferences": {
        "class_path": "srsoup_lightning.Preferences.lattice",
        "init_args": {"rewards": ["red", "blue"], "divisions": 2},
    },
}


def write_config(folder: Path, **model: object) -> Path:
    """A config in a folder, with its run directory beside it."""
    path = folder / "mixture.yaml"
    settings = {
        "model": MODEL | model,
        "data": {"prompts": ["a cat", "a dog"], "seeds": [0]},
        "trainer": {"accelerator": "cpu", "default_root_dir": str(folder / "run")},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def srsoup(config: Path, *options: str) -> int:
    return main(["predict", "--config", str(config), *options])


class Finished(NamedTuple):
    config: Path
    run: RunDirectory
    shown: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run with six candidates, and what it showed."""
    config = write_config(tmp_path_factory.mktemp("finished"))
    box = ("--summary.box", "{red: [0, 1], blue: [0, 1]}")
    with redirect_stdout(io.StringIO()) as shown:
        assert srsoup(config, "--model.sampler.candidates", "6", *box, "--tensorboard.curves", "1") == 0
    return Finished(config, RunDirectory(config.parent / "run"), shown.getvalue())


def event_files(root: Path) -> list[str]:
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("events.out.tfevents.*")})


def test_a_run_leaves_its_contract_and_charts_in_the_box_of_the_summary(finished: Finished) -> None:
    run, files = finished.run, {"samples.jsonl", "ledger.jsonl", "config.yaml", ".lock"}
    assert {path.name for path in run.root.iterdir()} == files | {"samples", "sheets", "tensorboard"}
    assert len(list(run.image_rows())) == 2 * 3
    assert yaml.safe_load(run.config.read_text())["model"]["sampler"]["init_args"]["candidates"] == 6
    assert "hypervolume" in finished.shown
    assert {"tensorboard", "tensorboard/front", "tensorboard/front/red1-blue0"} <= set(event_files(run.root))
    events = EventAccumulator(str(run.tensorboard / "front/red1-blue0")).Reload()
    assert {"hypervolume", "utility"} <= set(events.Tags()["scalars"])
    assert len(list((run.tensorboard / "denoising").glob("*/0"))) == 1


def test_charts_can_be_left_out_or_put_elsewhere(config: Path) -> None:
    assert srsoup(config, "--trainer.logger", "false") == 0
    assert not event_files(config.parent)
    logger = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"}
    logger["init_args"] = {"save_dir": str(config.parent / "mine"), "name": "soups", "version": "one"}
    assert srsoup(config, "--writer.overwrite", "true", "--trainer.logger", yaml.safe_dump(logger)) == 0
    assert {name.split("/")[0] for name in event_files(config.parent)} == {"mine"}
    assert "mine/soups/one/front/red1-blue0" in event_files(config.parent)


def test_the_saved_config_makes_the_same_run_again_whatever_the_process_arguments(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--nonsense"])
    first, again = finished.run, RunDirectory(tmp_path)
    assert srsoup(first.config, "--trainer.default_root_dir", str(again.root)) == 0
    assert first.samples.read_bytes() == again.samples.read_bytes()
    for row in first.image_rows():
        assert (first.root / row.image).read_bytes() == (again.root / row.image).read_bytes()


def preference(point: str) -> list[str]:
    options = f"{{rewards: [red, blue], weights: [{point}]}}"
    return ["--model.preferences", f"{{class_path: Preferences, init_args: {options}}}"]


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
        (preference("[0.5, 0.6]"), "sums to 1.1"),
        (preference("{green: 1.0}"), "names ['green']"),
        (preference("[-0.5, 1.5]"), "leaves the simplex"),
        (preference("[1.0]"), "has 1 weights"),
        (["--summary.box", "{red: [0, 1]}"], "box leaves out ['blue']"),
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
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in finished.run.root.rglob("*") if path.is_file()}
    assert srsoup(finished.config) == 1
    message = "holds a run of another config (model.sampler.init_args.candidates was 6, now 4): change it back"
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished.run.root.rglob("*") if path.is_file()} == before


class Probe:
    """Stands for the search of the fastest batch."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *arguments: object) -> int:
        self.asked += 1
        return 3 + self.asked


def test_the_batch_that_was_chosen_is_in_the_config_before_the_first_soup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures depend on it to the last bit: the first part of a run decides for all."""
    config = write_config(tmp_path)
    run, probe, written = RunDirectory(tmp_path / "run"), Probe(), []
    options = ["--model.sampler.max_batch", "auto", "--trainer.logger", "false"]
    real = RunDirectory.write

    def write(self: RunDirectory, soup: object) -> None:
        written.append(yaml.safe_load(run.config.read_text())["model"]["sampler"]["init_args"]["max_batch"])
        real(self, soup)

    monkeypatch.setattr(RunDirectory, "write", write)
    monkeypatch.setattr("srsoup_lightning.module.fastest_batch", probe)
    assert srsoup(config, *options, "--data.prompts", "[a cat]") == 0
    assert srsoup(config, *options) == 0
    assert (written, probe.asked) == ([4, 4], 1)
    assert srsoup(config, *options, "--writer.overwrite", "true") == 0
    assert (written, probe.asked) == ([4, 4, 5, 5], 2)
    assert srsoup(config, *options[2:], "--data.seeds", "[0, 1]") == 0  # with the 64 of the config
    assert (written[4:], probe.asked) == ([64, 64], 2)


def test_a_failing_reward_keeps_the_finished_soups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"class_path": "tests.conftest.Broken", "init_args": {"way": "nan", "after": 5}}
    assert srsoup(write_config(tmp_path, rewards=MODEL["rewards"] | {"blue": broken})) == 1
    error = capsys.readouterr().err
    assert "reward 'blue' returned nan at denoising step 1" in error
    assert "'a dog'" in error
    assert [row.prompt for row in RunDirectory(tmp_path / "run").cost_rows()] == ["a cat"]


def test_an_interruption_is_no_crash(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.conftest.Channel.score", interrupt)
    assert srsoup(config) == 130
    assert "interrupted" in capsys.readouterr().err


FORKS = """
import os, signal, sys
import srsoup_lightning.cli.predict
from srsoup_lightning.cli.main import main

children = []
for config in sys.argv[1:]:
    children.append(os.fork())
    if not children[-1]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        os.dup2(os.open(f"{config}.errors", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.exit(main(["predict", "--config", config, "--data.seeds", str(list(range(1_000)))]))
print(*children, flush=True)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_a_real_signal_keeps_the_finished_soups_and_says_so(tmp_path: Path) -> None:
    """Both runs are forks of a process that has imported everything, which takes the most time."""
    signals = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    for stop in signals:
        (tmp_path / stop.name).mkdir()
    configs = [str(write_config(tmp_path / stop.name)) for stop in signals]
    with subprocess.Popen([sys.executable, "-c", FORKS, *configs], stdout=subprocess.PIPE, text=True) as process:
        children = [int(child) for child in process.stdout.readline().split()]
        for stop, child in zip(signals, children, strict=True):
            until_exists(RunDirectory(tmp_path / stop.name / "run").ledger)
            os.kill(child, stop)
        assert process.communicate(timeout=60)[0].split() == ["130", "143"]
    for (stop, said), config in zip(signals.items(), configs, strict=True):
        errors = Path(f"{config}.errors").read_text()
        assert errors.splitlines()[-1].startswith(f"srsoup: error: {said}: what was finished is kept")
        assert "Traceback" not in errors
        run = RunDirectory(tmp_path / stop.name / "run")
        rows = list(run.image_rows())
        assert rows
        assert all((run.root / row.image).exists() for row in rows)


def until_exists(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_unknown_configs_are_answered_by_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", "animal"]) == 1
    assert "animals" in capsys.readouterr().err


def test_the_version_is_told_without_heavy_imports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"srsoup {__version__}"
    code = "import sys; from srsoup_lightning.cli.main import main; main(['--version']); main([]); "
    code += "sys.exit(' '.join({'torch', 'lightning', 'jsonargparse', 'rewards'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "\n")


def test_help_lists_the_commands_that_errors_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} {command.help}" in " ".join(shown.split()) for name, command in COMMANDS.items())
    for mistake in ("scoer", "--nonsense"):
        assert main([mistake]) == 2
        assert f"no command '{mistake}': choose one of {', '.join(COMMANDS)}" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.replace("[options] ", "").startswith(f"usage: srsoup {name} [")


def test_options_may_stand_before_the_command(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(yaml.safe_dump({"predict": yaml.safe_load(config.read_text())}))
    assert main(["--config", str(config), "predict", "--data.prompts", "[]"]) != 0
    assert "no prompts" in capsys.readouterr().err


@pytest.mark.parametrize(("prompts", "ending"), [("[a cat]", 0), ("missing.txt", 1)])
def test_logs_of_a_program_around_it_stay_its_own_business(config: Path, prompts: str, ending: int) -> None:
    names = ("lightning.pytorch", "lightning.fabric", "srsoup_lightning.module")
    before = [logging.getLogger(name).level for name in names], list(warnings.filters)
    assert srsoup(config, f"--data.prompts={prompts}", "--trainer.logger=false") == ending
    assert ([logging.getLogger(name).level for name in names], list(warnings.filters)) == before
