"""Files of a LoRA on this machine, checked before diffusers and peft read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")  # regular expressions, where they are one text
KEYED = ("rank_pattern", "alpha_pattern")  # regular expressions are the keys
METADATA = "lora_adapter_metadata"  # in the header of a weight file, by diffusers
LONGEST, MOST_QUANTIFIERS = 1_000, 3
# A quantifier behind a group can take a time that doubles with each letter of a module's name.
_NESTED = re.compile(r"\)\s*[*+?{]")
_QUANTIFIER = re.compile(r"[*+{]")


def require_one_weight_file(path: Path) -> None:
    """Check that a folder has one weight file, because diffusers takes any one of several.

    Raises:
        ValueError: It has several.
    """
    files = sorted(file.name for file in path.glob("*.safetensors")) if path.is_dir() else []
    if len(files) > 1:
        raise ValueError(
            f"LoRA {str(path)!r} has several weight files, {', '.join(files)}: give the path of one of them"
        )


def require_simple_patterns(config: Mapping[str, Any]) -> None:
    """Check that the regular expressions in a LoRA's config are none that take for ever.

    Raises:
        ValueError: One may be. The message names it.
    """
    for name, pattern in _patterns(config):
        quantifiers = len(_QUANTIFIER.findall(pattern))
        if len(pattern) > LONGEST or quantifiers > MOST_QUANTIFIERS or _NESTED.search(pattern):
            raise ValueError(
                f"{name} is the regular expression {pattern[:60]!r}, which may take for ever: write names of modules"
            )


def metadata_of(path: Path) -> dict[str, Any]:
    """Return the LoRA's config in the header of its weight file. Empty where there is none, or no such file here."""
    try:
        content = json.loads(header_of(path).get(METADATA, "{}"))
    except ValueError:  # whoever reads the weights says so
        return {}
    return {key.rpartition(".")[2]: value for key, value in content.items()} if isinstance(content, dict) else {}


def header_of(path: Path) -> dict[str, str]:
    """Return the metadata of a LoRA's weight file. Empty where there are none, or no such file here."""
    from safetensors import SafetensorError, safe_open

    file = next(path.glob("*.safetensors"), path) if path.is_dir() else path
    if not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as weights:  # reads the header alone
            return dict(weights.metadata() or {})
    except SafetensorError:  # whoever reads the weights says so
        return {}


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in PATTERNS:
        values = config.get(name)
        yield from ((name, value) for value in ([values] if isinstance(values, str) else []))
    for name in KEYED:
        values = config.get(name)
        yield from ((name, key) for key in (values if isinstance(values, Mapping) else {}))
