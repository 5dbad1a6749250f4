"""Settings that samplers and objectives share, and the size of their batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion import process
from srsoup_lightning.diffusion.process import BatchSize, Process, fastest_batch


@pytest.mark.parametrize(
    ("cost", "expected"), [(lambda n: 1.0 + n, 16), (lambda n: float(n), 1), (lambda n: n + n**2 / 8, 1)]
)
def test_the_batch_that_needs_the_least_time_a_latent_is_taken(monkeypatch, cost, expected: int) -> None:
    """The smallest one within 5 % of it: with an overhead of one latent's time, 16 of them come within 5 % of 64."""
    clock = [0.0]

    def work(x: Tensor) -> None:
        clock[0] += cost(len(x)) * 1e-6

    monkeypatch.setattr(process, "perf_counter", lambda: clock[0])
    assert fastest_batch(work, (3, 4, 4), torch.device("cpu")) == expected


def test_a_slow_network_is_tried_no_longer_than_the_probe_may_last(monkeypatch) -> None:
    clock, seen = [0.0], []

    def work(x: Tensor) -> None:
        clock[0] += 0.2 * len(x)
        seen.append(len(x))

    monkeypatch.setattr(process, "perf_counter", lambda: clock[0])
    fastest_batch(work, (3, 4, 4), torch.device("cpu"))
    assert seen == [1, 1, 1]


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
