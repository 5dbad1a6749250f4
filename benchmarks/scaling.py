"""How runs grow: ``python -m benchmarks.scaling``.

Soups a second of one process and of two with one thread each, from the difference between a long and a short run of the
command line, so that the start is no part of it; the start itself, which is the rest; peak memory of a process against
preferences, candidates and prompts; and what going on with 10,000 finished soups takes. Linux, and two free cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import lightning as L
from jsonargparse import auto_cli
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from benchmarks.front import COMMON
from benchmarks.machine import describe, peak_memory
from benchmarks.noise import write_noise
from benchmarks.overhead import SIZES, SMALL_SOUP
from rewards import Brightness, Contrast
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import RunSummary, SampleWriter
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import write_atomically
from srsoup_lightning.runs.naming import prompt_slug
from srsoup_lightning.samplers import BaseModel, WeightedSum

PROCESSES = (1, 2)
PICTURE = 16  # pixels of the finished soups' pictures, which are looked at, not opened
PROMPTS = (4, 64)  # of the runs whose memory is compared


def main(
    out: Path = Path("benchmarks/results/scaling.json"),
    repeats: int = 3,
    short: int = 2,
    long: int = 6,
    finished: int = 10_000,
) -> None:
    """Measure and write.

    Args:
        out: Where the results go.
        repeats: Runs of each length and number of processes, in turns; medians count.
        short: Soups a process in the short run.
        long: Soups a process in the long one.
        finished: Soups in the directory that a run goes on in.
    """
    results = {"machine": describe()} | _throughput(repeats, short, long)
    sizes = {name: peak_memory(SMALL_SOUP, *size) for name, size in SIZES.items()}
    sizes |= {f"{count} prompts": peak_memory("benchmarks.scaling.make_soups_of", count) for count in PROMPTS}
    results |= {"peak_megabytes": sizes, "resume": _resume(finished, repeats)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


def _throughput(repeats: int, short: int, long: int) -> dict[str, object]:
    """Seconds from start to end of each run, and what follows from their medians."""
    seconds: dict[tuple[int, int], list[float]] = {(count, size): [] for count in PROCESSES for size in (short, long)}
    for _ in range(repeats):
        for count, size in seconds:
            seconds[count, size].append(_run(count, size * count))
    medians = {key: median(times) for key, times in seconds.items()}
    rates = {count: count * (long - short) / (medians[count, long] - medians[count, short]) for count in PROCESSES}
    return {
        "soups_a_second": {f"{count} processes": rates[count] for count in PROCESSES},
        "speedup": rates[2] / rates[1],
        "start_seconds": {f"{n} processes": medians[n, short] - short * n / rates[n] for n in PROCESSES},
        "run_seconds": {f"{n} processes, {size * n} soups": times for (n, size), times in seconds.items()},
    }


def _run(processes: int, soups: int) -> float:
    """Seconds that a run of the demo's front takes, on a smaller search."""
    with tempfile.TemporaryDirectory() as root:
        options = ["--config", "animals", "--data.prompts", "[a lobster]", "--data.seeds", str(list(range(soups)))]
        options += ["--model.sampler.num_inference_steps", "10", "--model.sampler.candidates", "6"]
        options += ["--trainer.devices", str(processes), "--trainer.default_root_dir", root]
        options += ["--trainer.strategy", "ddp" if processes > 1 else "auto"]
        command = [sys.executable, "-m", "srsoup_lightning", "predict", *options]
        start = perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return perf_counter() - start


class Nothing(Backbone):
    """A model that is never asked, since all soups are finished."""

    def bind(self, prompt: str, **_: object) -> None:  # type: ignore[override]
        """Refuse."""
        raise RuntimeError(f"the soup of {prompt!r} should have been there")


class Clock(Callback):
    """When everything was ready for the first soup, which comes after what finds out which soups are there."""

    ready = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Look at the clock."""
        self.ready = perf_counter()


def _resume(finished: int, repeats: int) -> dict[str, float]:
    """Seconds that so many finished soups add to a run, before its first soup and in the summary at its end."""
    few, seeds = 10, 10
    with tempfile.TemporaryDirectory() as folder:
        starts, ends = {}, {}
        for soups in (few, finished):
            root, prompts = Path(folder) / str(soups), [f"prompt {number}" for number in range(soups // seeds)]
            write_noise(root, _preferences(), prompts, seeds, PICTURE)
            for prompt in prompts:  # sheets that are there are not drawn again, even if they are empty
                write_atomically(RunDirectory(root).sheets / f"{prompt_slug(prompt)}.png", b"")
            times = [_go_on(root, prompts, seeds) for _ in range(repeats)]
            starts[soups], ends[soups] = (median(column) for column in zip(*times, strict=True))
    return {
        "finished_soups": finished,
        "pictures": finished * len(_preferences()),
        "seconds_before_the_first_soup": starts[finished] - starts[few],
        "seconds_of_summary": ends[finished] - ends[few],
    }


def _preferences() -> Preferences:
    return Preferences.lattice(["brightness", "contrast"], 5)


def _go_on(root: Path, prompts: list[str], seeds: int) -> tuple[float, float]:
    """Seconds before the first soup, and after it: there is none left to make."""
    clock, rewards = Clock(), {"brightness": Brightness(), "contrast": Contrast()}
    module = SRSoupModule(Nothing(), rewards, BaseModel(), _preferences())
    start = perf_counter()
    _predict(module, root, prompts, seeds, [SampleWriter(), clock, RunSummary()])
    return clock.ready - start, perf_counter() - clock.ready


def _predict(module: SRSoupModule, root: Path, prompts: list[str], seeds: int, callbacks: list[Callback]) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        callbacks=callbacks,
    )
    with patch("sys.stdout", StringIO()):
        trainer.predict(module, PromptDataModule(prompts, list(range(seeds))), return_predictions=False)


def make_soups_of(count: int) -> None:
    """Make a small soup of each of so many prompts through the Trainer, into files."""
    options = COMMON | {"num_inference_steps": 3, "max_batch": 16}
    rewards = {"brightness": Brightness(), "contrast": Contrast()}
    module = SRSoupModule("tiny-animals", rewards, WeightedSum(**options, candidates=8), _preferences())
    with tempfile.TemporaryDirectory() as root:
        _predict(module, Path(root), [f"a lobster {n}" for n in range(count)], 1, [SampleWriter(), RunSummary()])


if __name__ == "__main__":
    auto_cli(main)
