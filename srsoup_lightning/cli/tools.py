"""The commands that are plain functions: what ``srsoup NAME`` runs beside the Trainer's own commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import docstring_parser
from jsonargparse import ArgumentParser
from rich.console import Console

from srsoup_lightning.terminal import printable

TOOLS = {
    "score": "srsoup_lightning.cli.score:score",
    "compare": "srsoup_lightning.report.compare:compare",
    "gallery": "srsoup_lightning.report.gallery:gallery",
    "serve-reward": "rewards.remote.server:serve",
}
"""Name of each command to the place of its function, which is imported when it is asked for."""


def run_tool(name: str, arguments: Sequence[str]) -> None:
    """Run one of the commands, and say which file it wrote if it wrote one.

    Arguments of type ``list[str]`` without a default are positional; all can also stand in a YAML file, ``--config``.

    Args:
        name: Which, a key of TOOLS.
        arguments: The command line after the name.

    Raises:
        ArgumentError: Arguments that the function doesn't take.
    """
    module, _, attribute = TOOLS[name].partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    docstring = docstring_parser.parse_from_object(function)
    parser = ArgumentParser(prog=f"srsoup {name}", exit_on_error=False, description=docstring.description)
    parser.add_argument("--config", action="config", help="YAML file with any of these arguments.")
    several = [
        parameter.name
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.default is parameter.empty and parameter.annotation == list[str]
    ]
    helps = {parameter.arg_name: parameter.description for parameter in docstring.params}
    for argument in several:
        parser.add_argument(argument, nargs="+", type=str, help=helps[argument])
    parser.add_function_arguments(function, skip=set(several), as_group=False)
    options = parser.instantiate_classes(parser.parse_args(list(arguments)))
    del options["config"]
    result = function(**options)
    if isinstance(result, Path):
        Console().print(printable(str(result)), soft_wrap=True, markup=False, highlight=False)
