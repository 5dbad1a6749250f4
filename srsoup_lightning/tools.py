"""The commands that are plain functions: what ``srsoup NAME`` runs beside the Trainer's own commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser

TOOLS = {
    "score": "srsoup_lightning.score:score",
    "serve-reward": "rewards.server:serve",
}
"""Name of each command to the place of its function, which is imported when it is asked for."""


def run_tool(name: str, arguments: Sequence[str]) -> Any:  # noqa: ANN401
    """Run one of the commands.

    Arguments of type ``list[str]`` without a default are positional; all can also stand in a YAML file, ``--config``.

    Args:
        name: Which, a key of TOOLS.
        arguments: The command line after the name.

    Raises:
        ArgumentError: Arguments that the function doesn't take.
    """
    module, _, attribute = TOOLS[name].partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    description, _, _ = (inspect.getdoc(function) or "").partition("\n\nArgs:")
    parser = ArgumentParser(prog=f"srsoup {name}", exit_on_error=False, description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of these arguments.")
    several = [
        parameter.name
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.default is parameter.empty and parameter.annotation == list[str]
    ]
    for argument in several:
        parser.add_argument(argument, nargs="+", type=str)
    parser.add_function_arguments(function, skip=set(several), as_group=False)
    options = parser.instantiate_classes(parser.parse_args(list(arguments)))
    del options["config"]
    return function(**options)
