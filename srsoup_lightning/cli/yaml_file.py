"""YAML files, which may come from strangers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from rewards.checks import read_text

MOST_ENTRIES = 100_000


def read_yaml(path: Path) -> object:
    """Read a YAML file of plain values in UTF-8, whatever the locale.

    Raises:
        OSError: The file can't be read.
        ValueError: It is a pipe or a device, is not in UTF-8 or no YAML, or has too many entries. A few lines of
            aliases of aliases can stand for more than any memory holds, and an alias of itself has no end.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}, line {mark.line + 1}"
        raise ValueError(f"{where} is no YAML ({getattr(error, 'problem', error)}): correct it") from None
    except RecursionError:
        raise ValueError(f"{path} has lists in lists without end: write it anew") from None
    entries, open_entries = 0, [content]
    while open_entries:
        entry = open_entries.pop()
        entries += 1
        if entries > MOST_ENTRIES:
            raise ValueError(f"{path} has more than {MOST_ENTRIES:,} entries, or an alias of itself: write it anew")
        if isinstance(entry, Mapping):
            open_entries += entry.values()
        elif isinstance(entry, list):
            open_entries += entry
    return content
