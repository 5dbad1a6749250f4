"""Differences between two configs of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

PICTURES = ("model", "seed_everything")  # sections of a config that decide how a soup looks
MOST = 3


def operational_options(cls: type) -> frozenset[str]:
    """Return the names of the options that do not change any picture.

    A dataclass declares them itself: ``field(default=..., metadata={"operational": True})``.

    Args:
        cls: A dataclass.
    """
    return frozenset(option.name for option in fields(cls) if option.metadata.get("operational"))


def changes(old: Mapping[str, Any], new: Mapping[str, Any], operational: Collection[str]) -> str:
    """Describe the first differences between two configs in the sections that decide how a soup looks.

    Args:
        old: Config of the run that is there.
        new: Config of the run to come.
        operational: Options to leave out: names of keys, or dotted ends of their paths, such as ``oracle.retries``.

    Returns:
        The differences in words; "" where there are none.
    """
    found = [
        line
        for key in PICTURES
        for line in _differences(
            key, _without(old.get(key), key, operational), _without(new.get(key), key, operational)
        )
    ]
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return ", ".join(found[:MOST]) + more


def _without(value: object, path: str, operational: Collection[str]) -> object:
    """Return the value without operational options. A mapping of nothing else becomes None, as if it were not given."""
    if not isinstance(value, Mapping) or not value:
        return value
    kept = {
        name: _without(option, f"{path}.{name}", operational)
        for name, option in value.items()
        if not any(f"{path}.{name}".endswith(f".{ending}") for ending in operational)
    }
    return kept or None


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{path}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield f"{path} was {_short(old)}, now {_short(new)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
