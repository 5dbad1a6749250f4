"""What is looked at before a pipeline's folder is loaded: that its parts are there, and their files JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn


def read_json(file: Path) -> Any:  # noqa: ANN401
    """What a JSON file says.

    Raises:
        ValueError: One that is cut off, or something else.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # text that isn't UTF-8 among them
        raise ValueError(f"{file} is damaged ({error}): get it anew") from error


def require_complete(folder: Path, index: Mapping[str, Any], parts: Collection[str]) -> None:
    """Check that the parts of a pipeline's folder have what diffusers can't tell, or can't say, that they lack.

    Args:
        folder: The pipeline's.
        index: Its index.
        parts: Those of its parts that will be loaded from it.

    Raises:
        FileNotFoundError: A part, or a file that one needs, that isn't there.
        ValueError: A damaged config or vocabulary.
    """
    for part in sorted(parts):
        if not (folder / part).is_dir():
            raise FileNotFoundError(
                f"{folder} lacks its folder {part}: get it anew, or name in loading.omit what the model does without"
            )
        for file in sorted((folder / part).glob("[!.]*.json")):
            read_json(file)
        for names in _needed(*index[part]):
            if not any(any((folder / part).glob(name)) for name in names):
                raise FileNotFoundError(f"{folder / part} lacks {' or '.join(names)}: get it anew")


def _needed(library: str, kind: str) -> Iterator[tuple[str, ...]]:
    """The names of each file that a part of a class needs, one of which is enough; none of a class not known."""
    found = getattr(import_module(library), kind, None) if library in ("diffusers", "transformers") else None
    if isinstance(found, type) and issubclass(found, nn.Module):
        yield ("config.json",)
        yield ("*.safetensors",)
        return
    with suppress(ImportError):  # of a class whose packages aren't installed, which says so when it is loaded
        if library == "diffusers" and (config := getattr(found, "config_name", None)):
            yield (config,)
        elif words := getattr(found, "vocab_files_names", None):
            yield (*sorted(words.values()), "*.model")
