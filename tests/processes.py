"""Runs in processes of their own, forked from a server that has imported everything: a start takes milliseconds.

``python -m tests.processes ROOT SEEDS PROCESSES STRATEGY PAUSE`` makes the same run from a command line.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from srsoup_lightning import PromptDataModule
from srsoup_lightning.callbacks import SampleWriter
from tests.conftest import Channel, make_module, quiet_trainer

PROMPTS = ["a cat", "a dog / with ünicode"]
MODULE = "tests.processes"


def make_all(root: Path, seeds: int, processes: int = 1, strategy: str = "auto", pause: float = 0.0) -> None:
    """Make the soups of both prompts and so many seeds, with a pause of so many seconds in every denoising step."""

    module = make_module({"red": Channel(0), "blue": Channel(2)})
    if pause:
        module.step_callbacks.append(lambda moment: time.sleep(pause))
    trainer = quiet_trainer(devices=processes, strategy=strategy, default_root_dir=root, callbacks=[SampleWriter()])
    trainer.predict(module, PromptDataModule(PROMPTS, list(range(seeds))), return_predictions=False)


def arguments(root: Path, seeds: int, processes: int = 1, strategy: str = "auto", pause: float = 0.0) -> list[str]:
    """Arguments of `make_all`, as the command line takes them."""
    return [str(root), str(seeds), str(processes), strategy, str(pause)]


def start(command: list[str], run: Callable[[list[str]], None] | None = None) -> ForkServerProcess:
    """Start `run`, or else the command line, with these arguments, as the leader of a process group of its own."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([MODULE, "srsoup_lightning.cli.predict"])
    process = server.Process(target=_lead, args=(command, run or _run_module))
    process.start()
    return process


def _lead(command: list[str], run: Callable[[list[str]], None]) -> None:
    os.setsid()
    run(command)


def _run_module(command: list[str]) -> None:
    sys.argv = ["", *command]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)  # Lightning's ddp starts this module again


if __name__ == "__main__":
    root, seeds, processes, strategy, pause = sys.argv[1:]
    make_all(Path(root), int(seeds), int(processes), strategy, float(pause))
