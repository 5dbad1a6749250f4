"""SIGTERM ends every process of a run in time, whatever it waits for, and 0 is the exit code of what is done alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from rewards import Reward
from srsoup_lightning import PromptDataModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.cli import main as cli
from srsoup_lightning.costs.limits import LimitError
from srsoup_lightning.runs import termination
from srsoup_lightning.runs.directory import RunDirectory
from tests.cli.test_main import MODEL, component, write_config
from tests.conftest import make_module, quiet_trainer
from tests.processes import start

SHORT = 1.0  # seconds of grace in the tests
MUTEX = ctypes.create_string_buffer(64)


def wait_in_c() -> None:
    """Wait for ever in C, as for a message from another process: no handler of Python runs meanwhile."""
    for _ in range(2):  # the second time waits for the first
        ctypes.CDLL(None).pthread_mutex_lock(MUTEX)


class Strange(Reward):
    """Does something strange from its third call on, and leaves a file that tells so."""

    def __init__(self, way: str, sign: str = "", rank: int | None = None) -> None:
        super().__init__()
        self.way, self.sign, self.rank, self.calls = way, sign, rank, 0

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        self.calls += 1
        if self.calls > 2 and self.rank in (None, int(os.environ.get("LOCAL_RANK", "0"))):
            if self.sign:
                Path(self.sign).write_text(str(os.getpid()))
            self.act()
        return images.mean((1, 2, 3))

    def act(self) -> None:
        if self.way == "waits":
            threading.Event().wait()
        elif self.way == "waits in C":
            wait_in_c()
        elif self.way == "threads":
            threading.Thread(target=threading.Event().wait).start()
        elif self.way == "exits":
            sys.exit(0)
        elif self.way == "limit":
            raise LimitError("no budget of ours")


class StrangeInMainThread(Strange):
    """Is asked by the main thread."""

    on_cpu = False


class Exit(Callback):
    """A callback that exits."""

    def on_predict_start(self, *_: object) -> None:
        sys.exit(0)


class Stop(Callback):
    """A callback that raises what ends an iteration, at the second soup."""

    def on_predict_batch_start(self, *given: object) -> None:
        if given[3]:
            raise StopIteration


def command(folder: Path, way: str, *, kind: type[Strange] = Strange, rank: int | None = None) -> list[str]:
    """Arguments of a run with a strange reward, whose sign is ``folder/sign``."""
    strange = component(f"{__name__}.{kind.__name__}", way=way, sign=str(folder / "sign"), rank=rank)
    config = write_config(folder, rewards=MODEL["rewards"] | {"blue": strange})
    return ["predict", "--config", str(config), "--trainer.logger", "false"]


def run_console(arguments: list[str]) -> None:
    """Run the command line; its errors go to a file beside the config."""
    os.dup2(os.open(f"{arguments[2]}.errors", os.O_CREAT | os.O_WRONLY | os.O_APPEND), sys.stderr.fileno())
    termination.GRACE = cli.LINGER = SHORT
    sys.argv = ["srsoup", *arguments]
    cli.console()


def wait_beside(arguments: list[str]) -> None:
    """Wait in C as one process of a run, whose other process ids follow the folder of the sign."""
    folder, *others = arguments
    os.dup2(os.open(f"{folder}/errors", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    termination.GRACE = SHORT
    termination.SigtermHandler([int(other) for other in others], lambda: None)
    Path(folder, "sign").write_text(str(os.getpid()))
    wait_in_c()


def pid_of_sign(folder: Path) -> int:
    deadline = time.monotonic() + 60
    while not ((sign := folder / "sign").is_file() and sign.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # it waits by now
    return int(sign.read_text())


WAITS = [
    pytest.param("waits", Strange, 0.9 * SHORT, id="for a thread"),
    pytest.param("waits", StrangeInMainThread, 0.9 * SHORT, id="in a judge"),
    pytest.param("waits in C", Strange, 0.9 * SHORT, id="for a thread in C"),
    pytest.param("waits in C", StrangeInMainThread, 2 * SHORT, id="in C"),
]


@pytest.mark.parametrize(("way", "kind", "longest"), WAITS)
def test_sigterm_ends_a_run_in_time(tmp_path: Path, way: str, kind: type[Strange], longest: float) -> None:
    run = start(command(tmp_path, way, kind=kind), run_console)
    assert pid_of_sign(tmp_path) == run.pid
    os.kill(run.pid, signal.SIGTERM)
    began = time.monotonic()
    run.join(30)
    assert run.exitcode == termination.TERMINATED
    assert time.monotonic() - began < longest + 0.5
    said = (tmp_path / "mixture.yaml.errors").read_text().splitlines()
    assert said[-1].startswith("srsoup: error: terminated: what was finished is kept")


@pytest.mark.parametrize("victim", ["silent", "waiting"])
@pytest.mark.parametrize("strategy", ["ddp_fork", pytest.param("ddp", marks=pytest.mark.slow)])
def test_sigterm_to_one_process_ends_all(tmp_path: Path, victim: str, strategy: str) -> None:
    """The judge of one process is silent. The other has made its soups, and waits for the first in C."""
    options = ["--trainer.strategy", strategy, "--trainer.devices", "2"]
    arguments = [*command(tmp_path, "waits", rank=1), *options]
    if strategy == "ddp":
        leader, longest = psutil.Popen([sys.executable, "-m", "srsoup_lightning", *arguments]), termination.GRACE
    else:
        forked = start(arguments, run_console)
        leader, longest = psutil.Process(forked.pid), SHORT
    silent = pid_of_sign(tmp_path)
    ranks = [leader, *leader.children()] if strategy == "ddp" else leader.children()
    while not RunDirectory(tmp_path / "run").ledger.is_file():
        time.sleep(0.05)
    time.sleep(0.5)
    (other,) = (rank.pid for rank in ranks if rank.pid != silent)
    os.kill(silent if victim == "silent" else other, signal.SIGTERM)
    _, alive = psutil.wait_procs(ranks, longest + 3)
    assert not alive
    if strategy == "ddp":
        assert leader.wait(5) == termination.TERMINATED
    else:
        forked.join(5)
        assert forked.exitcode == termination.TERMINATED


def test_the_signal_is_passed_on_past_processes_that_have_ended(tmp_path: Path) -> None:
    ended, other = (subprocess.Popen([sys.executable, "-c", code]) for code in ("", "import time; time.sleep(60)"))
    ended.wait()
    silent = start([str(tmp_path), str(ended.pid), str(other.pid)], wait_beside)
    try:
        os.kill(pid_of_sign(tmp_path), signal.SIGTERM)
        assert other.wait(5) == -signal.SIGTERM
        silent.join(5)
        assert silent.exitcode == termination.TERMINATED
    finally:
        other.kill()
        silent.kill()


def test_threads_of_a_judge_do_not_hold_the_exit(tmp_path: Path) -> None:
    run = start(command(tmp_path, "threads"), run_console)
    run.join(60)
    assert run.exitcode == 0
    assert len(list(RunDirectory(tmp_path / "run").cost_rows())) == 2


@pytest.mark.parametrize("kind", [Strange, StrangeInMainThread])
@pytest.mark.parametrize(("way", "said"), [("exits", "SystemExit: 0"), ("limit", "LimitError: no budget of ours")])
def test_a_reward_that_exits_or_reaches_a_limit_of_its_own_has_failed(
    tmp_path: Path, kind: type[Strange], way: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(tmp_path, way, kind=kind)) == 1
    assert f"reward 'blue' failed at denoising step 3: {said}" in " ".join(capsys.readouterr().err.split())


def test_what_exits_early_has_not_done_what_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = ["--trainer.callbacks", f"{__name__}.Exit"]
    assert cli.main([*command(tmp_path, "none"), *callback]) == 1
    assert "the command ended early, by sys.exit(0)" in capsys.readouterr().err
    assert cli.main(["predict", "--print_config"]) == 0


def test_a_run_whose_soups_are_missing_has_not_done_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, "none")
    assert cli.main([*arguments, "--trainer.callbacks", f"{__name__}.Stop"]) == 1
    assert "1 of 2 soups are missing" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*arguments, "--trainer.limit_predict_batches", "1", "--writer.overwrite", "true"]) == 0
    assert len([*RunDirectory(tmp_path / "run").cost_rows()]) == 1
    assert cli.main(arguments) == 0


def test_a_run_leaves_the_signal_as_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), threading.active_count()
    for reward in (Strange("none"), Strange("exits")):
        module, trainer = make_module({"blue": reward}), quiet_trainer(default_root_dir=tmp_path)
        trainer.callbacks.append(SampleWriter(overwrite=True))
        if reward.way == "none":
            for _ in range(2):
                trainer.predict(module, PromptDataModule(["a cat"]))
            assert sum(isinstance(callback, termination.Termination) for callback in trainer.callbacks) == 1
        else:
            with pytest.raises(RuntimeError, match="SystemExit"):
                trainer.predict(module, PromptDataModule(["a cat"]))
        assert signal.set_wakeup_fd(-1) == -1
    deadline = time.monotonic() + 5
    while threading.active_count() > before[1]:
        assert time.monotonic() < deadline
    handler = signal.getsignal(signal.SIGTERM)
    assert handler == before[0] or handler.__self__._closed
