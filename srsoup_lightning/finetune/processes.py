"""Processes of one fine-tuning, which share the groups of each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

Part = TypeVar("Part")


class Processes(NamedTuple):
    """Processes that share the groups.

    Attributes:
        rank: Rank of this process.
        world_size: Number of processes.
        gather: Returns the value of each process, in the order of their ranks, when all of them have given one.
    """

    rank: int
    world_size: int
    gather: Callable[[Any], list[Any]]


ALONE = Processes(0, 1, lambda value: [value])


def interleaved(shares: Sequence[Sequence[Part]]) -> list[Part]:
    """Return the parts of all processes in the order of the groups, which take turns between the processes."""
    return [part for turn in zip(*shares, strict=True) for part in turn]
