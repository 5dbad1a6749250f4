"""Runs over several processes leave the same pictures, rows and costs as a run of one process."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest
import torch

from srsoup_lightning import PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.rows import ImageRow
from tests.conftest import Channel, make_module, quiet_trainer
from tests.finetune.fits import make_fit
from tests.processes import MODULE, arguments, make_all, start
from tests.runs.test_resume import ROOT, contents

SEEDS = 4
pytestmark = pytest.mark.long


def require_same(tmp_path: Path, seeds: int) -> None:
    """Require of the run in ``many`` that one process would have made the same."""
    make_all(tmp_path / "one", seeds)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not list((tmp_path / "many").glob("*.[0-9].jsonl"))


@pytest.mark.parametrize(
    ("strategy", "processes", "seeds"),
    [
        pytest.param("ddp_fork", 3, SEEDS, id="uneven shards"),
        pytest.param("ddp_fork", 3, 1, id="fewer soups than processes"),
        *(
            pytest.param(strategy, processes, SEEDS, marks=pytest.mark.slow)
            for strategy in ("ddp", "ddp_spawn")
            for processes in (2, 3)
        ),
    ],
)
def test_every_strategy(tmp_path: Path, strategy: str, processes: int, seeds: int) -> None:
    run = start(arguments(tmp_path / "many", seeds, processes, strategy))
    run.join(240)
    assert run.exitcode == 0
    require_same(tmp_path, seeds)


def test_a_module_reaches_a_spawned_process(module: SRSoupModule) -> None:
    for sent in (module, make_fit()):
        received = pickle.loads(ForkingPickler.dumps(sent))
        assert received.loras == {}
        torch.testing.assert_close(dict(received.named_parameters()), dict(sent.named_parameters()))


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", MODULE]
    run = [*launcher, *arguments(tmp_path / "many", SEEDS, 2, "ddp")]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True, timeout=240)
    require_same(tmp_path, SEEDS)


DEATHS = [
    pytest.param("ddp_fork", [0], signal.SIGKILL, id="first of a fork"),
    *(
        pytest.param("ddp", victims, signal.SIGKILL, id=f"{name} of ddp", marks=pytest.mark.slow)
        for name, victims in {"first": [0], "second": [1], "both": [0, 1]}.items()
    ),
    pytest.param("ddp", [0], signal.SIGTERM, id="all by the first", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("strategy", "victims", "death"), DEATHS)
def test_a_process_that_dies_takes_no_finished_soup_with_it(
    tmp_path: Path, strategy: str, victims: list[int], death: signal.Signals
) -> None:
    root = tmp_path / "many"
    run = start(arguments(root, SEEDS, 2, strategy, pause=0.05))
    first, second = RunDirectory(root), RunDirectory(root, rank=1)
    try:
        until(lambda: first.ledger.is_file() and second.ledger.is_file())
        leader = psutil.Process(run.pid)
        workers = leader.children() if strategy == "ddp_fork" else [leader, *leader.children()]
        workers.sort(key=lambda worker: worker.pid)
        for victim in victims:
            workers[victim].send_signal(death)
        run.join(60)
        assert run.exitcode  # The run ends, and it ends as a failure.
    finally:
        kill_group(run.pid)
    finished = {row.key for row in first.cost_rows()}
    assert 0 < len(finished) < 2 * SEEDS
    made = {row.image: written(root, row) for row in first.image_rows() if row.key in finished}
    make_all(root, SEEDS)
    require_same(tmp_path, SEEDS)
    assert made.items() <= {row.image: written(root, row) for row in first.image_rows()}.items()


@pytest.mark.parametrize("strategy", ["ddp_fork", pytest.param("ddp", marks=pytest.mark.slow)])
def test_processes_that_outlive_the_first_stop_when_another_run_begins(tmp_path: Path, strategy: str) -> None:
    root = tmp_path / "run"
    run = start(arguments(root, SEEDS, 2, strategy, pause=0.3))
    other = make_module({"red": Channel(0), "blue": Channel(2)}, negative_prompt="x")
    try:
        until(RunDirectory(root, rank=1).ledger.is_file)
        leader = psutil.Process(run.pid)
        workers = sorted(leader.children(), key=lambda worker: worker.pid)
        first, second = workers if strategy == "ddp_fork" else (leader, workers[0])
        for process in (leader, first):
            process.kill()
        psutil.wait_procs([first], 10)
        trainer = quiet_trainer(default_root_dir=root, callbacks=[SampleWriter(overwrite=True)])
        trainer.predict(other, PromptDataModule(["new"]))
        before = contents(root)
        second.wait(60)
        assert contents(root) == before
        assert {row.prompt for row in RunDirectory(root).image_rows()} == {"new"}
    finally:
        kill_group(run.pid)


def written(root: Path, row: ImageRow) -> int:
    """Time at which a row's picture was written, in nanoseconds."""
    return (root / row.image).stat().st_mtime_ns


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
