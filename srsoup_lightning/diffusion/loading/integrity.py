"""Checks before a pipeline's folder is loaded: its components are there, and their JSON files are valid."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from rewards.checks import read_text


def read_json(file: Path) -> Any:  # noqa: ANN401
    """Content of a JSON file.

    Raises:
        ValueError: The file is cut off or is no JSON.
    """
    try:
        return json.loads(read_text(file))
    except ValueError as error:  # text that isn't UTF-8 among them
        raise ValueError(f"{file} is damaged ({error}): get it anew") from error


def require_complete(folder: Path, index: Mapping[str, Any], components: Collection[str]) -> None:
    """Check that the components of a pipeline's folder have the files that they need.

    These are the files whose absence diffusers does not notice, or does not report clearly.

    Args:
        folder: Folder of the pipeline.
        index: Index of the pipeline.
        components: Names of the components that will be loaded from it.

    Raises:
        FileNotFoundError: A component, or a file that it needs, is missing.
        ValueError: A damaged config or vocabulary.
    """
    for name in sorted(components):
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} lacks its folder {name}: get it anew, or name in loading.omit what the model does without"
            )
        for file in sorted((folder / name).glob("[!.]*.json")):
            read_json(file)
        for patterns in _needed(*index[name]):
            if not any(any((folder / name).glob(pattern)) for pattern in patterns):
                raise FileNotFoundError(f"{folder / name} lacks {' or '.join(patterns)}: get it anew")


def _needed(library: str, kind: str) -> Iterator[tuple[str, ...]]:
    """Patterns of the files that a component needs, one tuple a file: any pattern of the tuple is enough.

    A class that is not known needs none.
    """
    found = getattr(import_module(library), kind, None) if library in ("diffusers", "transformers") else None
    if isinstance(found, type) and issubclass(found, nn.Module):
        yield ("config.json",)
        yield ("*.safetensors",)
        return
    with suppress(ImportError):  # the packages of the class are not installed: its loading says so
        if library == "diffusers" and (config := getattr(found, "config_name", None)):
            yield (config,)
        elif words := getattr(found, "vocab_files_names", None):
            yield (*sorted(words.values()), "*.model")
