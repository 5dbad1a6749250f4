"""Settings of a denoising process that samplers and objectives share, and the size of their batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from time import perf_counter
from typing import Literal, TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
BatchOption = int | Literal["auto"]
NUMBERS: dict[str, tuple[type, str]] = {"int": (Integral, "a whole number"), "float": (Real, "a number")}
"""Class of the values of an option and its name, by the annotation."""

SMALLEST, LARGEST = 8, 64  # latents, of the batches that are tried
PROBE_SECONDS = 5.0  # longest expected time of a probe, beside its first call
TOLERANCE = 0.05  # a smaller batch is taken if it is at most this much slower than the fastest one


def at_least(least: float, default: Result) -> Result:
    """Return a dataclass field of a :class:`Process` whose value must be at least `least`."""
    return field(default=default, metadata={"least": least})


@dataclass(frozen=True, kw_only=True)
class Process:
    """Settings of a denoising process.

    Args:
        num_inference_steps: Number T of denoising steps, at least 1.
        guidance_scale: Scale of classifier-free guidance. 1 turns it off and halves the network evaluations. Models
            with distilled guidance are told the scale instead, and Z-Image counts from 0.
        eta: Share of the noise that is drawn anew in each step, or the noise level of a flow, in [0, 1].
        max_batch: Largest number of latents that the network evaluates at once. "auto" measures at the start of a run
            which size is the fastest on its device.

    Raises:
        TypeError: An option that is a number has another type.
        ValueError: A number is outside its range.
    """

    num_inference_steps: int = at_least(1, default=50)
    guidance_scale: float = 5.0
    eta: float = 1.0
    max_batch: BatchOption = field(default="auto", metadata={"operational": True})

    def __post_init__(self) -> None:
        for option in fields(self):
            least, value = option.metadata.get("least"), getattr(self, option.name)
            kind, words = NUMBERS.get(str(getattr(option.type, "__name__", option.type)), (object, ""))
            if not isinstance(value, kind):
                raise TypeError(f"{option.name} is {value!r}: give {words}")
            if least is not None and not value >= least:
                raise ValueError(f"{option.name} is {value}: give at least {least}")
        if self.max_batch != "auto" and not (isinstance(self.max_batch, Integral) and self.max_batch >= 1):
            raise ValueError(f"max_batch is {self.max_batch}: give at least 1, or auto")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}: give a number in [0, 1]")


class BatchSize:
    """Largest number of rows that are worked on at once. It is halved whenever a device runs out of memory.

    Args:
        rows: Size at the start, at least 1.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    @classmethod
    def of(cls, option: BatchOption) -> BatchSize:
        """Return the size of an option. Without a probe, "auto" is the largest size that a probe tries."""
        return cls(LARGEST if option == "auto" else option)

    def chunks(self, work: Callable[[Tensor], Result], rows: Tensor) -> Iterator[Result]:
        """Yield the result of `work` for each chunk of the rows (B, ...), in order.

        Raises:
            torch.OutOfMemoryError: A chunk of one row does not fit into memory.
        """
        start = 0
        while start < len(rows):
            chunk = rows[start : start + self.rows]
            try:
                result = work(chunk)
            except torch.OutOfMemoryError:
                if len(chunk) == 1:
                    raise
                self.rows = len(chunk) // 2
                logger.warning("out of memory with a batch of %d: going on with %d", len(chunk), self.rows)
                torch.cuda.empty_cache()
                continue
            yield result
            start += len(chunk)


def fastest_batch(work: Callable[[Tensor], object], shape: tuple[int, ...], device: torch.device) -> int:
    """Measure which batch size needs the least time for each latent.

    Sizes 8, 16, 32 and 64 are tried, as long as the next one is expected to end within five seconds. Larger batches use
    a GPU better. On a CPU, their activations outgrow its caches.

    Args:
        work: What a run does with latents (B, *shape) again and again, such as a preview of them.
        shape: Shape of a latent.
        device: Device of the latents.

    Returns:
        The smallest size that is at most 5 % slower than the fastest one. It is 8 where the work is too slow to try.
    """
    noise = torch.randn(LARGEST, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(device)
    work(noise[:1])  # the first call also allocates memory and selects kernels
    left = PROBE_SECONDS
    expected = SMALLEST * _seconds(work, noise[:1], device)
    seconds: dict[int, float] = {}  # for each latent
    size = SMALLEST
    while size <= LARGEST and expected <= left:
        try:
            duration = _seconds(work, noise[:size], device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        seconds[size], left, expected = duration / size, left - duration, 2 * duration
        size *= 2
    fastest = min(seconds.values(), default=0.0)
    return next((size for size, each in seconds.items() if each <= (1 + TOLERANCE) * fastest), SMALLEST)


def _seconds(work: Callable[[Tensor], object], noise: Tensor, device: torch.device) -> float:
    start = perf_counter()
    work(noise)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
