"""Completion of commands and options in a shell."""

from __future__ import annotations

import argparse
from argparse import ArgumentError

from srsoup_lightning.cli.help import main_parser
from srsoup_lightning.cli.suggestions import suggested

FILES = ("FILE", "FOLDER", "NAME|FILE")  # placeholders of options that take files


def completion(shell: str) -> str:
    """Return a script that completes commands, options and files.

    Args:
        shell: Name of the shell.

    Raises:
        ModuleNotFoundError: The package shtab is missing.
        ArgumentError: It knows no such shell.
    """
    try:
        import shtab
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("completion needs shtab: pip install 'srsoup-lightning[completion]'") from missing
    if shell not in shtab.SUPPORTED_SHELLS:
        raise ArgumentError(None, f"no completion for the shell {shell!r}: {suggested(shell, shtab.SUPPORTED_SHELLS)}")
    parser = main_parser(with_options=True)
    for action in _actions(parser):
        values = str(action.metavar).split("|")
        if action.metavar in FILES or not action.option_strings:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif len(values) > 1:
            action.choices = values
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Actions of a parser and of its commands, without the choice of the command itself."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for command in action.choices.values() for inner in _actions(command)]
        else:
            found.append(action)
    return found
