"""What is asked of whom: the terms between a reward and the code that speaks HTTP for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Judge:
    """Where a judge is and how patiently it is asked; see :class:`rewards.HTTPReward`."""

    url: str
    token: str | None = field(repr=False)
    ca_file: str | None
    timeout: float
    connect_timeout: float
    retries: int


def _nothing() -> None:
    pass


class Request(NamedTuple):
    """One exchange with a judge.

    Args:
        path: Where, below the judge's address.
        write: Makes the body to POST; None makes it a GET.
        read: Reads the answer's body, and raises ValueError if it is not what it should be.
        limit: Bytes that the answer's body may have.
        before_repeat: Called before each attempt after the first.
    """

    path: str
    write: Callable[[], bytes] | None
    read: Callable[[bytes], Any]
    limit: int
    before_repeat: Callable[[], None] = _nothing
