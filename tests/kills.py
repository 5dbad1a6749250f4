"""A run that is killed again and again at random moments, and then continued: ``python -m tests.kills ROOT KILLS``.

It is a process of its own that has imported everything and forks the victims, so that a kill takes a moment and not the
seconds that a start takes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import lightning as L

from srsoup_lightning import PromptDataModule
from srsoup_lightning.callbacks import SampleWriter
from tests.conftest import Channel, make_module

SOUPS_A_KILL = 3


def make_all(root: Path, soups: int) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        callbacks=[SampleWriter()],
    )
    data = PromptDataModule(["a cat", "a dog / with ünicode"], list(range(soups // 2)))
    trainer.predict(make_module({"red": Channel(0), "blue": Channel(2)}), data, return_predictions=False)


def main(root: Path, kills: int) -> None:
    moments = random.Random(0)
    soups = SOUPS_A_KILL * kills
    for _ in range(kills):
        victim = os.fork()
        if victim == 0:
            make_all(root, soups)
            os._exit(0)
        time.sleep(moments.uniform(0.05, 0.6))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    make_all(root, soups)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
