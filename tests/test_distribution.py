"""Runs over several processes: whatever their number, the same pictures, rows and costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from srsoup_lightning.runs.directory import RunDirectory
from tests.processes import make_all
from tests.runs.test_resume import ROOT, contents


def command(root: Path, seeds: int, processes: int, strategy: str, pause: float = 0.0) -> list[str]:
    return [sys.executable, "-m", "tests.processes", str(root), str(seeds), str(processes), strategy, str(pause)]


def check_same(tmp_path: Path, seeds: int, processes: int, strategy: str) -> None:
    many = command(tmp_path / "many", seeds, processes, strategy)
    done = subprocess.run(many, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    make_all(tmp_path / "one", seeds)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not list((tmp_path / "many").glob("*.[0-9].jsonl"))


def test_uneven_shards(tmp_path: Path) -> None:
    check_same(tmp_path, seeds=4, processes=3, strategy="ddp_fork")


def test_fewer_soups_than_processes(tmp_path: Path) -> None:
    check_same(tmp_path, seeds=1, processes=3, strategy="ddp_fork")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
@pytest.mark.parametrize("processes", [2, 3])
def test_every_strategy(tmp_path: Path, strategy: str, processes: int) -> None:
    check_same(tmp_path, seeds=4, processes=processes, strategy=strategy)


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    start, *run = command(tmp_path / "many", 4, 2, "ddp")
    launcher = [start, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *run]
    subprocess.run(launcher, cwd=ROOT, check=True, capture_output=True, timeout=240)
    make_all(tmp_path / "one", 4)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


SEEDS = 4


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
    root = tmp_path / "killed"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(command(root, SEEDS, 2, strategy, pause=0.05), cwd=ROOT, start_new_session=True, **quiet)
    first, second = RunDirectory(root), RunDirectory(root, rank=1)
    try:
        until(lambda: first.ledger.is_file() and second.ledger.is_file())
        children = psutil.Process(run.pid).children()
        workers = sorted(children if strategy == "ddp_fork" else [run, *children], key=lambda worker: worker.pid)
        for victim in victims:
            workers[victim].send_signal(death)
        assert run.wait(60)  # nobody waits for the dead, or calls it a success
    finally:
        kill_group(run.pid)
    finished = {(row["prompt"], row["seed"]) for row in first.ledger_rows()}
    assert 0 < len(finished) < 2 * SEEDS
    made = {row["image"]: written(root, row) for row in first.sample_rows() if (row["prompt"], row["seed"]) in finished}
    make_all(root, SEEDS)
    make_all(tmp_path / "one", SEEDS)
    assert contents(root) == contents(tmp_path / "one")
    assert made.items() <= {row["image"]: written(root, row) for row in first.sample_rows()}.items()


def written(root: Path, row: dict) -> int:
    """When a row's picture was written, in nanoseconds."""
    return (root / row["image"]).stat().st_mtime_ns


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
