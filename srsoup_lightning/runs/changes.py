"""Differences between two descriptions of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from srsoup_lightning.runs.identity import described_defaults

MOST = 3


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe the first differences between two nested mappings.

    An option that the old description lacks, because its class had no such option then, has its default value there.

    Args:
        old: Description of the run that is there.
        new: Description of the run to come.

    Returns:
        The differences in words; "" where there are none.
    """
    found = [line for key in dict.fromkeys((*old, *new)) for line in _differences(key, old.get(key), new.get(key))]
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return ", ".join(found[:MOST]) + more


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        before = {**described_defaults(new), **old} if old.get("class") == new.get("class") else old
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{path}.{name}", before.get(name), new.get(name))
    elif old != new:
        yield f"{path} was {_short(old)}, now {_short(new)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
