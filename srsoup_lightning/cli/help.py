"""Help of the command line, made from the sources of the commands without importing them."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import textwrap

from srsoup_lightning.cli.commands import COMMANDS, SHARED, Command
from srsoup_lightning.cli.signatures import COMPUTED, MISSING, Parameter, Signature, signature

WIDEST = 110  # columns
EXAMPLES = """
examples:
  srsoup demo
  srsoup predict --config animals --data.prompts '[a snail]' --trainer.default_root_dir runs/snail

srsoup COMMAND --help shows the options of a command.
"""
FURTHER = """
further help:
  --trainer.help            the options of Lightning's Trainer, such as --trainer.devices 2
  --model.OPTION.help NAME  the options of a class, for every option that takes a CLASS:
                            --model.sampler.help SRSoup
"""
FILLED = ("model", "datamodule")  # parameters of a method of the Trainer that no option gives
KINDS = {  # by the name that an annotation begins with
    "bool": "true|false",
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "Path": "FILE",
    "dict": "{NAME: ...}",
    "Mapping": "{NAME: ...}",
    "list": "[...]",
    "tuple": "[...]",
    "Sequence": "[...]",
    "Rewards": "{NAME: ...}",
}


def main_parser(with_options: bool = False) -> argparse.ArgumentParser:
    """Return a parser of the commands, perhaps with their options. It shows help, and parses nothing."""
    parser = _parser(
        "srsoup", "Steer text-to-image diffusion models by black-box rewards, for every preference at once."
    )
    parser.usage, parser.epilog = "srsoup COMMAND [options]", EXAMPLES
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        parents = [command_parser(name)] if with_options else []
        commands.add_parser(name, help=command.help, parents=parents, add_help=False)
    group = parser.add_argument_group("options of all commands")
    group.add_argument("--version", action="store_true", help="Show the version.")
    group.add_argument("--completion", metavar="SHELL", help="Show a script of completion for a shell.")
    _add_common(group)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return a parser of the options of a command. It shows help, and parses nothing."""
    command = COMMANDS[name]
    if command.trainer:
        parser = _parser(f"srsoup {name}", command.help)
        parser.usage, parser.epilog = f"srsoup {name} --config NAME [options]", FURTHER
        _add_config(parser, "Builtin config by its name, or a YAML file. Later ones replace values of earlier ones.")
        _add_trainer_options(parser, command)
    else:
        described = signature(command.function)
        parser = _parser(f"srsoup {name}", described.description)
        parser.usage = " ".join([f"srsoup {name}", *filter(None, map(_usage, described.parameters)), "[options]"])
        _add_config(parser, "YAML file with any of these options.")
        _add(parser.add_argument_group("options of the command"), "", described)
    _add_common(parser.add_argument_group("options of all commands"))
    return parser


def options(name: str) -> list[str]:
    """Return the names of the options of a command, without dashes."""
    strings = [string for action in command_parser(name)._actions for string in action.option_strings]
    return [string.removeprefix("--") for string in strings if string.startswith("--")]


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    width = min(WIDEST, shutil.get_terminal_size().columns - 2)

    class Formatter(argparse.RawDescriptionHelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, max_help_position=30, width=width)

    text = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in description.split("\n\n"))
    return argparse.ArgumentParser(prog=prog, description=text, formatter_class=Formatter, add_help=False)


def _add_config(parser: argparse.ArgumentParser, text: str) -> None:
    group = parser.add_argument_group("config")
    group.add_argument("--config", metavar="NAME|FILE", help=text)
    group.add_argument("--print_config", action="store_true", help="Show the config that all options make, and end.")


def _add_common(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-q", "--quiet", action="store_true", help="Show results, warnings and errors alone.")
    group.add_argument("-v", "--verbose", action="store_true", help="Show more messages, and where errors arise.")
    group.add_argument("-h", "--help", action="store_true", help="Show this help.")


def _add_trainer_options(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add the options of a command that is a method of the Trainer, without those of Lightning."""
    if command.function:
        method = signature(command.function)
        own = [parameter for parameter in method.parameters if parameter.name not in FILLED]
        _add(parser.add_argument_group("options of the command"), "", method._replace(parameters=own))
    run = parser.add_argument_group("run")
    run.add_argument("--trainer.default_root_dir", metavar="FOLDER", help="Run directory. (default: runs/default)")
    for prefix, path in {**SHARED, **command.callbacks}.items():
        described = signature(path)
        shown = [each for each in described.parameters if f"{prefix}.{each.name}" not in command.links.values()]
        summary = re.split(r"(?<=\.)\s", described.description, maxsplit=1)[0]
        if shown:
            group = parser.add_argument_group(prefix, " ".join(summary.split()))
            _add(group, f"{prefix}.", described._replace(parameters=shown))


def _add(group: argparse._ArgumentGroup, prefix: str, described: Signature) -> None:
    for parameter in described.parameters:
        text = " ".join(f"{parameter.help} {_default(parameter)}".split()).replace("%", "%%")
        if parameter.nested is not None:
            _add(group, f"{prefix}{parameter.name}.", parameter.nested)
        elif _is_positional(parameter):
            group.add_argument(parameter.name, nargs="+", help=text)
        else:
            group.add_argument(f"--{prefix}{parameter.name}", metavar=_kind(parameter), help=text)


def _is_positional(parameter: Parameter) -> bool:
    return parameter.default is MISSING and parameter.annotation == "list[str]"


def _usage(parameter: Parameter) -> str:
    if parameter.default is not MISSING:
        return ""
    return f"{parameter.name.upper()} ..." if _is_positional(parameter) else f"--{parameter.name} {_kind(parameter)}"


def _kind(parameter: Parameter) -> str:
    (first,) = re.findall(r"^\w*", parameter.annotation)
    if first == "Literal":
        return "|".join(re.findall(r"'([^']*)'", parameter.annotation))
    return KINDS.get(first, "CLASS" if parameter.default in (MISSING, None) else "VALUE")


def _default(parameter: Parameter) -> str:
    """Default of a parameter, as YAML has it."""
    if parameter.default is MISSING:
        return "(required)"
    if parameter.default in (COMPUTED, None, "", (), [], {}):
        return ""
    return f"(default: {json.dumps(parameter.default).strip(chr(34))})"
