"""Configs on the command line, by path or by the name of a builtin one."""

from __future__ import annotations

from pathlib import Path

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.cli.suggestions import suggested


def with_config_paths(arguments: list[str]) -> list[str]:
    """Return arguments with the names of builtin configs replaced by their paths.

    Raises:
        FileNotFoundError: There is no such config.
    """
    resolved = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        flag, equals, name = argument.partition("=")
        if previous in ("--config", "-c"):
            resolved.append(_config_path(argument))
        elif flag == "--config" and equals:
            resolved.append(f"--config={_config_path(name)}")
        else:
            resolved.append(argument)
    return resolved


def _config_path(name: str) -> str:
    builtin = CONFIGS.find(name)
    if builtin is not None:
        return str(builtin)
    if not Path(name).is_file():
        raise FileNotFoundError(f"no config {name!r}, neither a file nor builtin: {suggested(name, CONFIGS.names())}")
    return name
