"""Plain functions as rewards in YAML: ``class_path`` may name a function, where the parser wants a class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, get_type_hints

import numpy as np
import yaml
from jsonargparse import get_loader, set_dumper, set_loader
from torch import Tensor

from rewards import FunctionReward

NUMBERS = (Tensor, np.ndarray, list, tuple, float)
MODE = "srsoup"
"""Mode of the parsers: YAML whose functions are rewards."""


def _load(text: str) -> Any:  # noqa: ANN401 - any plain value
    return _with_rewards(get_loader("yaml")(text))


def _dump(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False)


def _with_rewards(value: Any) -> Any:  # noqa: ANN401 - any plain value
    """The value, with a FunctionReward for every ``class_path`` of a plain function."""
    if isinstance(value, list):
        return [_with_rewards(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    inner = {key: _with_rewards(each) for key, each in value.items()}
    path = inner.get("class_path")
    if not isinstance(path, str) or not _is_plain(path):
        return inner
    options = {"function": path, **(inner.get("init_args") or {})}
    return inner | {"class_path": f"{FunctionReward.__module__}.{FunctionReward.__name__}", "init_args": options}


def _is_plain(path: str) -> bool:
    """Whether a path leads to a function of numbers, and not to a class or a factory that the parser calls."""
    try:
        found = resolve_name(path)
    except Exception:  # of a module of the user's own; the parser says that it can't be imported
        return False
    if not inspect.isfunction(found):
        return False
    try:
        returned = get_type_hints(found).get("return")
    except NameError:  # of a type that only type checkers import
        return True
    return not inspect.isclass(returned) or issubclass(returned, NUMBERS)


set_loader(MODE, _load, (yaml.YAMLError,))
set_dumper(MODE, _dump)
