"""A process that has the hub's server for its hub and a cache of its own, and what it is asked to do there."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import huggingface_hub.constants
import pytest
import torch

from rewards import AestheticScore, CLIPScore, Reward
from srsoup_lightning.cli.main import main
from srsoup_lightning.diffusion.loading.fingerprint import loaded_model
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.loading.sizes import Sizes, sizes_of


class Outcome(NamedTuple):
    """A number that two equal models share, or the message of an error."""

    value: float | None = None
    message: str = ""


@contextmanager
def client(home: Path, endpoint: str, **environment: str) -> Iterator[ProcessPoolExecutor]:
    """Start a process that reads these environment variables when it imports huggingface_hub."""
    variables = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with ProcessPoolExecutor(1, get_context("spawn"), _without_waiting) as pool, pytest.MonkeyPatch.context() as patch:
        for name, value in (variables | environment).items():
            patch.setenv(name, value)
        pool.submit(os.getpid).result()
        patch.undo()
        yield pool


def _without_waiting() -> None:
    """Let retries come at once, and tiny files in several pieces."""
    torch.set_num_threads(1)
    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1 << 16
    time.sleep = lambda seconds: None


def pipeline(source: str, **options: object) -> Outcome:
    """Load a pipeline."""
    try:
        network = load_backbone(source, Loading(**options)).network
    except Exception as error:
        return Outcome(message=f"{type(error).__name__}: {error}")
    return Outcome(sum(float(weight.detach().double().abs().sum()) for weight in network.parameters()))


def facts(source: str, **options: object) -> dict[str, object]:
    """Facts about a pipeline that tell one run from another."""
    return loaded_model(source, Loading(**options))


def sizes(source: str, **options: object) -> Sizes:
    """Count the bytes of a pipeline before it is loaded."""
    return sizes_of(source, Loading(**options), 1)


def clip(source: str, **options: object) -> Outcome:
    """Load a CLIPScore and score a grey picture."""
    return _score(lambda: CLIPScore(source, **options))


def aesthetic(source: str, **options: object) -> Outcome:
    """Load an AestheticScore and score a grey picture."""
    return _score(lambda: AestheticScore(source, **options))


def _score(make: Callable[[], Reward]) -> Outcome:
    try:
        return Outcome(float(make().score(torch.full((1, 3, 16, 16), 0.5), ["a cat"])))
    except Exception as error:
        return Outcome(message=f"{type(error).__name__}: {error}")


def command(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command of srsoup; its exit code, and its errors."""
    errors = io.StringIO()
    os.environ.update(environment)
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    return code, errors.getvalue()
