"""Settings that samplers and objectives share, and the size of their batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion import process
from srsoup_lightning.diffusion.process import BatchSize, Process, fastest_batch


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (lambda n: 1e-6 * (1 + n), 16),  # with the overhead of one latent, 16 come within 5 % of 64
        (lambda n: 1e-6 * n, 8),
        (lambda n: 1e-6 * (8 + n + n**2 / 64), 16),
        (lambda n: 0.1 + 0.01 * n, 64),
        (lambda n: 0.05 * n + 1e-3, 8),  # 64 would take too long
        (lambda n: 2.0 * n, 8),  # so would 8
    ],
)
def test_the_batch_that_needs_the_least_time_a_latent_is_taken(monkeypatch, cost, expected: int) -> None:
    clock = [0.0]

    def work(x: Tensor) -> None:
        clock[0] += cost(len(x))

    monkeypatch.setattr(process, "perf_counter", lambda: clock[0])
    assert fastest_batch(work, (3, 4, 4), torch.device("cpu")) == expected
    assert clock[0] <= 2 * cost(1) + process.PROBE_SECONDS


def test_a_batch_that_does_not_fit_is_not_taken() -> None:
    def work(x: Tensor) -> None:
        if len(x) > 16:
            raise torch.OutOfMemoryError("tried to allocate")

    assert fastest_batch(work, (3, 4, 4), torch.device("cpu")) <= 16


@pytest.mark.parametrize("max_batch", [0, -1, "all"])
def test_a_batch_size_that_is_none_is_refused(max_batch: object) -> None:
    with pytest.raises(ValueError, match=f"max_batch is {max_batch}: give at least 1, or auto"):
        Process(max_batch=max_batch)
    assert BatchSize.of("auto").rows == 64
