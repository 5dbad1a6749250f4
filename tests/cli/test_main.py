from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from lightning.pytorch.strategies import SingleDeviceStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from srsoup_lightning import __version__
from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.directory import RunDirectory
from tests.callbacks.test_callbacks import contents
from tests.processes import start


def component(class_path: str, **init_args: object) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


CHANNEL = "tests.conftest.Channel"
SHARING = component("srsoup_lightning.samplers.FixedSoup", start=0, end=20)
SOUP = {"num_inference_steps": 5, "candidates": 4, "max_batch": 64, "sharing": SHARING}
MODEL = {
    "pipeline": component("tests.conftest.MixtureBackbone"),
    "rewards": {name: component(CHANNEL, channel=index) for name, index in (("red", 0), ("blue", 2))},
    "sampler": component("srsoup_lightning.samplers.SRSoup", **SOUP),
    "preferences": component("srsoup_lightning.Preferences.lattice", rewards=["red", "blue"], divisions=2),
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
        assert srsoup(config, "--model.sampler.candidates", "6", *box) == 0
    return Finished(config, RunDirectory(config.parent / "run"), shown.getvalue())


def event_files(root: Path) -> set[str]:
    return {path.parent.relative_to(root).as_posix() for path in root.rglob("events.out.tfevents.*")}


def test_a_run_leaves_its_contract_and_charts_in_the_box_of_the_summary(finished: Finished) -> None:
    run, files = finished.run, {"samples.jsonl", "ledger.jsonl", "config.yaml", "run.json"}
    assert {path.name for path in run.root.glob("[!.]*")} == files | {"samples", "sheets", "tensorboard"}
    assert len(list(run.image_rows())) == 2 * 3
    assert yaml.safe_load(run.config.read_text())["model"]["sampler"]["init_args"]["candidates"] == 6
    assert "hypervolume" in finished.shown
    assert event_files(run.root) == {"tensorboard"}
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert {"result/hypervolume", "result/utility"} <= set(events.Tags()["scalars"])
    (config,) = events.Tensors("config/text_summary")
    assert run.config.read_text() in config.tensor_proto.string_val[0].decode()


def test_charts_can_be_left_out_or_put_elsewhere(config: Path) -> None:
    assert srsoup(config, "--trainer.logger", "false") == 0
    assert not event_files(config.parent)
    options = {"save_dir": str(config.parent / "mine"), "name": "soups", "version": "one"}
    logger = component("lightning.pytorch.loggers.TensorBoardLogger", **options)
    assert srsoup(config, "--writer.overwrite", "true", "--trainer.logger", yaml.safe_dump(logger)) == 0
    assert event_files(config.parent) == {"mine/soups/one"}


def test_the_saved_config_makes_the_same_run_again(
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
        (["--trainer.devices", "0"], "devices='0'"),
        (["--model.oracle.budgets", "{red: 0}"], "the budget of 'red' is 0"),
        (["--model.oracle.budgets", "{green: 9}"], "oracle.budgets names 'green', but the rewards are red, blue"),
    ],
)
def test_misuse_gets_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert srsoup(config, "-q", *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("srsoup: error: ")
    assert message in line
    assert not (config.parent / "run").exists()


def test_a_finished_run_says_that_nothing_is_left(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", str(finished.run.config), "--trainer.logger", "false"]) == 0
    assert f"{finished.run.root}: nothing is left to do, all 2 soups are made" in capsys.readouterr().err


def test_a_run_that_fails_before_its_first_soup_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, rewards=MODEL["rewards"] | {"blue": component("tests.conftest.Broken")})
    assert srsoup(config) == 1
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert srsoup(config, "-q") == 1
    assert (tmp_path / "run" / "notes.txt").exists()
    assert main(["gallery", str(tmp_path / "run")]) == 2
    assert "has no pictures yet: finish a soup first, or remove the folder" in capsys.readouterr().err


def test_names_of_rewards_are_compared_before_any_reward_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(self: object, channel: int) -> None:
        pytest.fail("it is made")

    monkeypatch.setattr("tests.conftest.Channel.__init__", make)
    assert srsoup(config, "--model.preferences.init_args.rewards", "[red, green]") == 2
    assert "the rewards are ['blue', 'red'] and the preferences weigh ['green', 'red']" in capsys.readouterr().err


def test_quiet_shows_results_alone_and_verbose_where_an_error_arose(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert srsoup(config, "--quiet", "--trainer.logger", "false") == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert shown.out.strip().startswith("mean over 2 soups")
    assert srsoup(config, "-v", "--data.prompts", "[]") == 2
    assert "Traceback" in (error := capsys.readouterr().err)
    assert error.splitlines()[-1].startswith("srsoup: error: no prompts")


def test_the_demo_ends_in_a_page_and_says_what_to_do_next(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "srsoup_lightning.cli.demo.run_trainer", lambda *_: copytree(finished.run.root, tmp_path / "animals")
    )
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert "a cat" in (tmp_path / "animals" / "gallery.html").read_text()
    shown = capsys.readouterr().out
    assert str(tmp_path / "animals" / "gallery.html") in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("  ")] == [
        ["srsoup", "predict"],
        ["srsoup", "gallery"],
        ["tensorboard", "--logdir"],
    ]


def test_another_run_in_its_directory_changes_nothing(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished.run.root)
    assert srsoup(finished.config) == 2
    message = "holds another run (sampler.candidates was 6, now 4): change it back"
    assert message in capsys.readouterr().err
    assert contents(finished.run.root) == before


def test_the_chosen_batch_is_in_the_config_before_any_soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures depend on it to the last bit: the first part of a run decides for all."""
    config, run, sizes, sent, written = write_config(tmp_path), RunDirectory(tmp_path / "run"), [4, 5], [], []
    previewed = set()
    options = ["--model.sampler.max_batch", "auto", "--trainer.logger", "false"]
    broadcast, write = SingleDeviceStrategy.broadcast, RunDirectory.write

    def saved() -> object:
        return yaml.safe_load(run.config.read_text())["model"]["sampler"]["init_args"]["max_batch"]

    def broadcast_and_look(self: SingleDeviceStrategy, value: object, src: int = 0) -> object:
        if type(value) is int:  # other processes get the number now, and need not wait from here on
            sent.append((value, saved()))
        return broadcast(self, value, src)

    def measure(work: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device) -> int:
        previewed.add(tuple(work(torch.zeros(2, *shape, dtype=torch.float32, device=device)).shape[:2]))
        return sizes.pop(0)

    monkeypatch.setattr(SingleDeviceStrategy, "broadcast", broadcast_and_look)
    monkeypatch.setattr(RunDirectory, "write", lambda *arguments: (written.append(saved()), write(*arguments)))
    monkeypatch.setattr("srsoup_lightning.samplers.hooks.fastest_batch", measure)
    assert srsoup(config, *options, "--data.prompts", "[a cat]") == 0
    assert srsoup(config, *options) == 0
    assert (written, sent, sizes) == ([4, 4], [(4, 4)], [5])
    assert previewed == {(2, 3)}, "network and decoder are measured together"
    assert srsoup(config, *options, "--writer.overwrite", "true") == 0
    assert (written[2:], sent[1:], sizes) == ([5, 5], [(5, 5)], [])
    assert srsoup(config, *options[2:], "--data.seeds", "[0, 1]") == 0  # with the 64 of the config
    assert written[4:] == [64, 64]


def test_the_root_of_the_writer_is_the_directory_of_the_whole_run(tmp_path: Path) -> None:
    """Pictures, the config and the charts are there, and nothing is elsewhere."""
    config, root = write_config(tmp_path), tmp_path / "elsewhere"
    assert srsoup(config, "--writer.root", str(root), "--data.prompts", "[a cat]") == 0
    assert RunDirectory(root).config.exists()
    assert any(RunDirectory(root).tensorboard.iterdir())
    assert not (tmp_path / "run").exists()


def test_a_failing_reward_keeps_the_finished_soups_and_an_interruption_is_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = MODEL["rewards"] | {"blue": component("tests.conftest.Broken", way="nan", after=5)}
    config = write_config(tmp_path, rewards=broken)
    assert srsoup(config) == 1
    error = capsys.readouterr().err
    assert "reward 'blue' returned nan at denoising step 1" in error
    assert "'a dog'" in error
    assert [row.prompt for row in RunDirectory(tmp_path / "run").cost_rows()] == ["a cat"]

    def interrupt(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.conftest.Channel.score", interrupt)
    assert srsoup(config) == 130
    assert "interrupted" in capsys.readouterr().err


def predict_for_long(arguments: list[str]) -> None:
    """Make a thousand soups for each prompt; messages go to a file beside the config."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    os.dup2(os.open(f"{arguments[0]}.errors", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.exit(srsoup(Path(arguments[0]), "--data.seeds", str(list(range(1_000)))))


def test_a_real_signal_keeps_the_finished_soups_and_says_so(tmp_path: Path) -> None:
    runs = {}
    for stop, said, code in ((signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)):
        (tmp_path / stop.name).mkdir()
        config = write_config(tmp_path / stop.name)
        runs[stop, said, code] = config, start([str(config)], predict_for_long)
    for (stop, said, code), (config, process) in runs.items():
        run = RunDirectory(config.parent / "run")
        deadline = time.monotonic() + 60
        while not run.ledger.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, stop)
        process.join(60)
        assert process.exitcode == code
        errors = Path(f"{config}.errors").read_text()
        assert errors.splitlines()[-1].startswith(f"srsoup: error: {said}: what was finished is kept")
        assert "Traceback" not in errors
        assert (rows := list(run.image_rows()))
        assert all((run.root / row.image).exists() for row in rows)


def test_the_version_is_told_without_heavy_imports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"srsoup {__version__}"
    code = "import sys; from srsoup_lightning.cli.main import main; main(['--version']); main(['fit', '-h']); "
    code += "sys.exit(' '.join({'torch', 'lightning', 'jsonargparse', 'rewards'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: srsoup {name} ")


def test_help_and_errors_name_the_commands_and_the_configs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} {command.help}" in " ".join(shown.split()) for name, command in COMMANDS.items())
    for mistake in ("scoer", "--nonsense"):
        assert main([mistake]) == 2
        error = capsys.readouterr().err
        assert f"no command '{mistake}': " in error
        assert f"choose one of {', '.join(COMMANDS)}" in error
    assert main(["predict", "--config", "animal"]) == 2
    assert "animals" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({"predict": yaml.safe_load(config.read_text())}))
    assert main(["--config", str(config), "predict", "--data.prompts", "[]"]) != 0
    assert "no prompts" in capsys.readouterr().err


@pytest.mark.parametrize(("prompts", "ending"), [("[a cat]", 0), ("missing.txt", 2)])
def test_logs_of_a_program_around_it_stay_its_own_business(config: Path, prompts: str, ending: int) -> None:
    def state() -> tuple[list[int], list]:
        names = ("lightning.pytorch", "lightning.fabric", "srsoup_lightning.module")
        return [logging.getLogger(name).level for name in names], list(warnings.filters)

    before = state()
    assert srsoup(config, f"--data.prompts={prompts}", "--trainer.logger=false") == ending
    assert state() == before


def test_a_folder_may_have_the_name_of_a_builtin_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("animals").mkdir()
    assert main(["predict", "--config", "animals", "--data.seeds", "[]"]) == 2
    assert "no seeds" in capsys.readouterr().err
