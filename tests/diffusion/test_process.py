"""Settings that samplers and objectives share, and the size of their batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion import process
from srsoup_lightning.diffusion.process import BatchSize, Process, fastest_batch


def tried(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> tuple[int, list[int]]:
    """The batch taken for a network that needs so many seconds for so many latents, and the batches tried."""
    clock, seen = [0.0], []

    def work(x: Tensor) -> None:
        clock[0] += seconds(len(x))
        seen.append(len(x))

    monkeypatch.setattr(process, "perf_counter", lambda: clock[0])
    return fastest_batch(work, (3, 4, 4), torch.device("cpu")), seen


def test_the_batch_that_needs_the_least_time_a_latent_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest one within 5 % of it: with an overhead of one latent's time, 16 of them come within 5 % of 64."""
    assert tried(monkeypatch, lambda n: 1e-6 * (1 + n))[0] == 16
    assert tried(monkeypatch, lambda n: 1e-6 * n)[0] == 1
    assert tried(monkeypatch, lambda n: 1e-6 * (n + n**2 / 8))[0] == 1
    assert tried(monkeypatch, lambda n: 0.2 * n)[1] == [1, 1, 1]  # no longer than the probe may last


def test_a_batch_that_does_not_fit_is_not_taken() -> None:
    def work(x: Tensor) -> None:
        if len(x) > 4:
            raise torch.OutOfMemoryError("tried to allocate")

    assert fastest_batch(work, (3, 4, 4), torch.device("cpu")) <= 4


@pytest.mark.parametrize("max_batch", [0, -1, "all"])
def test_a_batch_size_that_is_none_is_refused(max_batch: object) -> None:
    with pytest.raises(ValueError, match=f"max_batch is {max_batch}: give at least 1, or auto"):
        Process(max_batch=max_batch)
    assert BatchSize.of("auto").rows == 64
