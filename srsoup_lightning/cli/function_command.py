"""Commands that call a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from srsoup_lightning.cli.own_functions import MODE
from srsoup_lightning.cli.refusal import refusing
from srsoup_lightning.terminal import printable


def run_function(name: str, function: str, arguments: Sequence[str]) -> None:
    """Call a function with the arguments of a command line, and show the path that it returns, if it returns one.

    Arguments of type ``list[str]`` without a default are positional. All arguments may also stand in a YAML file, which
    ``--config`` names.

    Args:
        name: Name of the command.
        function: "module:name" of the function.
        arguments: The command line after the name of the command.

    Raises:
        ArgumentError: The function has no such argument, or the value has another type.
    """
    call: Callable[..., Any] = resolve_name(function)
    with refusing(TypeError):
        options = _parsed(name, call, arguments)
    with refusing():
        result = call(**options)
    if isinstance(result, Path):
        Console().print(printable(str(result)), soft_wrap=True, markup=False, highlight=False)


def _parsed(name: str, call: Callable[..., Any], arguments: Sequence[str]) -> dict[str, Any]:
    parser = ArgumentParser(prog=f"srsoup {name}", exit_on_error=False, parser_mode=MODE)
    parser.add_argument("--config", action="config")
    positional = [
        parameter.name
        for parameter in inspect.signature(call, eval_str=True).parameters.values()
        if parameter.default is parameter.empty and parameter.annotation == list[str]
    ]
    for argument in positional:
        parser.add_argument(argument, nargs="+", type=str)
    parser.add_function_arguments(call, skip=set(positional), as_group=False)
    options = parser.instantiate_classes(parser.parse_args(list(arguments)))
    del options["config"]
    return dict(options)
