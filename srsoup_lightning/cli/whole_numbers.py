"""Whole numbers among the Trainer's options: 1 is one batch, and 1.0 is all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin


def keep_whole_numbers(function: Callable[..., Any]) -> None:
    """Let parsers try whole numbers first where a function takes them and floats.

    Python keeps the members of a Union in the order in which some module has named them first. A parser takes the first
    one that fits, and 1 fits float. The Union stays the same, since its order has no meaning.

    Args:
        function: A function whose annotations are types.
    """
    annotations = inspect.unwrap(function).__annotations__
    for name, annotation in annotations.items():
        members = get_args(annotation)
        if get_origin(annotation) is Union and {int, float} <= {*members}:
            annotations[name] = Union[tuple(sorted(members, key=lambda member: member is not int))]  # noqa: UP007
