"""Precision of a Trainer: autocast reaches the networks alone, and all other numbers are float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def require_precision(precision: str) -> None:
    """Check that the Trainer leaves the precision of tensors as it is.

    Raises:
        ValueError: It would convert the networks, and change the default of new tensors.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"trainer.precision is {precision!r}, which would change latents and scores too: give one of "
            f"{', '.join(PRECISIONS)}, and half precision of the networks as model.loading.dtype"
        )


def with_current_autocast(device: torch.device) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Return a decorator that calls a function under the autocast of now, whatever it is at the time of the call."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        return lambda call: call
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def decorate(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(call)
        def called(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            with torch.autocast(kind, dtype, enabled):
                return call(*arguments, **options)

        return called

    return decorate


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Context without autocast on a device."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()
