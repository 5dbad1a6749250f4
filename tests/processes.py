"""A run over one process or several: ``python -m tests.processes ROOT SEEDS PROCESSES STRATEGY PAUSE``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from srsoup_lightning import PromptDataModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.samplers.result import Moment
from tests.conftest import Channel, make_module, quiet_trainer

PROMPTS = ["a cat", "a dog / with ünicode"]


def make_all(root: Path, seeds: int, processes: int = 1, strategy: str = "auto", pause: float = 0.0) -> None:
    """Make the soups of both prompts and so many seeds, with a pause of so many seconds in every denoising step."""

    def rest(moment: Moment) -> None:
        time.sleep(pause)

    module = make_module({"red": Channel(0), "blue": Channel(2)})
    if pause:
        module.step_callbacks.append(rest)
    trainer = quiet_trainer(devices=processes, strategy=strategy, default_root_dir=root, callbacks=[SampleWriter()])
    trainer.predict(module, PromptDataModule(PROMPTS, list(range(seeds))), return_predictions=False)


if __name__ == "__main__":
    place, number, processes, strategy, pause = sys.argv[1:]
    make_all(Path(place), int(number), int(processes), strategy, float(pause))
