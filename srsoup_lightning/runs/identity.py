"""Identity of a run: all that decides what its pictures look like, as one value.

::

    <root>/run.json    id, facts that a run which goes on must have too, and the circumstances of each of its parts

A part is the work of one start. Circumstances may change the last bits of a picture, and no more.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewards.checks import read_text, refuse_constant
from srsoup_lightning.runs.files import write_atomically

PACKAGES = ("srsoup-lightning", "torch", "diffusers", "transformers", "peft", "lightning")


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Identity of a run.

    Attributes:
        facts: Nested mappings of plain values; see :func:`described`.
        parts: Circumstances of each part of the run, each different from the one before.
        max_batch: Size of its batches. None where it is not chosen yet.
    """

    facts: Mapping[str, Any]
    parts: tuple[Mapping[str, Any], ...] = ()
    max_batch: int | None = None

    @property
    def id(self) -> str:
        """Hash of the facts, 32 hexadecimal digits, which each row of the run has too."""
        text = json.dumps(self.facts, sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def write(self, path: Path) -> None:
        """Write the identity atomically."""
        content = {"id": self.id, "facts": self.facts, "parts": self.parts, "max_batch": self.max_batch}
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1).encode())


def read_identity(path: Path) -> RunIdentity | None:
    """Read the identity of a run, or return None where there is no file.

    Raises:
        ValueError: The file is damaged, or its id is not that of its facts.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(read_text(path), parse_constant=refuse_constant)
        identity = RunIdentity(
            facts=dict(content["facts"]),
            parts=tuple(map(dict, content["parts"])),
            max_batch=content["max_batch"],
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_ANEW}") from error
    if content["id"] != identity.id or not isinstance(identity.max_batch, int | None):
        raise ValueError(f"{path} is damaged (its id is not that of its facts): {_ANEW}")
    return identity


def operational_options(cls: type) -> frozenset[str]:
    """Return the names of the options that do not change any picture.

    A dataclass declares them itself: ``field(default=..., metadata={"operational": True})``.

    Args:
        cls: A dataclass.
    """
    return frozenset(option.name for option in fields(cls) if option.metadata.get("operational"))


def described(value: object) -> Any:  # noqa: ANN401 - plain values of JSON
    """Describe a value by plain ones, the same in every process.

    A dataclass is described by its class and its options, apart from operational ones; an object with `arguments` by
    its class and these; a function by its import path; and any other object by its class.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().numpy().tobytes()
        return {"shape": [*value.shape], "sha256": hashlib.sha256(content).hexdigest()}
    if isinstance(value, set | frozenset):
        return sorted(map(described, value), key=repr)
    if isinstance(value, Iterable) and not hasattr(value, "arguments"):
        return [described(each) for each in value]
    return _described_object(value)


def _described_object(value: object) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, partial):
        return {"call": described(value.func), "given": described(value.args), **described(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        skipped = operational_options(type(value))
        options = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in skipped}
        return {"class": _path(type(value)), **described(options)}
    if hasattr(value, "__qualname__"):
        return _path(value)
    if isinstance(value, Path):
        return str(value)
    return {"class": _path(type(value)), **described(getattr(value, "arguments", {}))}


def described_defaults(description: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the options that the object of a description has by default, from the signature of its class."""
    module, _, name = str(description.get("class", "")).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if not isinstance(cls, type):
        return {}
    try:
        parameters = signature(cls).parameters.values()
    except ValueError:  # classes written in C may have none
        return {}
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    if is_dataclass(cls):
        defaults |= {each.name: each.default_factory() for each in fields(cls) if each.default_factory is not MISSING}
    return dict(described(defaults))


def circumstances(device: torch.device) -> dict[str, Any]:
    """Circumstances of a part of a run on this device."""
    return {
        "device": device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _path(value: Any) -> str:  # noqa: ANN401 - a class or function
    return f"{value.__module__}.{value.__qualname__}"


_ANEW = "without it nothing tells which run this is, so give another directory, or replace the run"
