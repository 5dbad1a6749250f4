"""Order of a command line: of an option and a config, the later one decides."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from srsoup_lightning.builtin import CONFIGS
from srsoup_lightning.cli.renamed import entries_of, options_of
from srsoup_lightning.cli.yaml_file import read_yaml


def refuse_overruled(command: str, arguments: Sequence[str]) -> None:
    """Check that no config takes the place of an option before it. Its user would get what they did not ask for.

    Args:
        command: Name of the command.
        arguments: The command line.

    Raises:
        ArgumentError: An option stands before a config that sets it too.
        OSError, ValueError: A config can't be read; see :func:`~srsoup_lightning.cli.yaml_file.read_yaml`.
    """
    before: dict[str, str] = {}  # options by the keys of a config
    for option, value in options_of(arguments):
        if option not in ("config", "c"):
            before[_plain(option, command)] = option
            continue
        path = CONFIGS.find(value) or Path(value)
        entries = entries_of(read_yaml(path)) if path.is_file() else ()
        for key in (_plain(key, command) for key, _ in entries):
            if key in before:
                raise ArgumentError(
                    None, f"--{before[key]} stands before --config {value}, which sets it too: put it after the config"
                )


def _plain(key: str, command: str) -> str:
    """A key without what an option may leave out."""
    return ".".join(part for part in key.removeprefix(f"{command}.").split(".") if part != "init_args")
