"""What differs between two configs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PICTURES = ("model", "seed_everything")  # the sections that decide what a soup looks like
HOW = frozenset(  # options that do not
    {"max_batch", "offload", "retries", "timeout", "cached", "budgets", "soup_limits", "run_limits"}
)
MOST = 3


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first differences between the sections of two configs that decide what a soup looks like; "" for none."""
    found = [line for key in PICTURES for line in _differences(key, old.get(key), new.get(key))]
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return ", ".join(found[:MOST]) + more


def _differences(key: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            if name not in HOW:
                yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield f"{key} was {_short(old)}, now {_short(new)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
