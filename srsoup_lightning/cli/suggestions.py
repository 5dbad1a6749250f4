"""Valid names in the place of a wrong one, the one that was perhaps meant first."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any, get_args, get_type_hints

from srsoup_lightning.cli.commands import COMMANDS, SHARED
from srsoup_lightning.cli.help import options

# Messages of jsonargparse about wrong names, with the group that has the name.
OPTION = re.compile(
    r"unrecognized arguments: --([^\s=]+)|does not accept option '([^']+)'|^Option '([^']+)' is not accepted"
)
REQUIRED = re.compile(r"the following arguments are required: (.*)")
ARGUMENT = re.compile(r"class_path '([^']+)': Option '([^']+)' is not accepted")
ATTRIBUTE = re.compile(r"class_path '[^']+': module '([^']+)' has no attribute '([^']+)'")
NO_CLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of Reward")
SHORT_NAME = re.compile(r"Expected a dot import path string: (\S+)")
KEY = re.compile(r'Parser key "([^"]+)"')
OWNERS = {**SHARED, "trainer": "lightning.pytorch:Trainer"}  # prefix of options to their class
CLASS_PATH = re.compile(r"class_path '([^']+)'")


def suggested(name: str, valid: Iterable[str]) -> str:
    """Return the part of a message that says which names are valid, and which of them was perhaps meant."""
    names = list(valid)
    by_letters = {each.lower(): each for each in names}
    close = get_close_matches(name.lower(), by_letters, n=1)
    meant = f"did you mean {by_letters[close[0]]}? " if close else ""
    return f"{meant}choose one of {', '.join(names)}"


def explained(command: str, message: str) -> str:
    """Return a message of the parser about a wrong option, argument or class with the valid names; others unchanged."""
    message = " ".join(message.split())
    for pattern, explain in EXPLANATIONS.items():
        if (found := pattern.search(message)) and (explanation := explain(command, message, found)):
            return explanation
    return message


def _of_option(command: str, message: str, found: re.Match[str]) -> str | None:
    key = next(filter(None, found.groups())).removeprefix(f"{command}.")
    group, _, _ = key.rpartition(".")
    every = [*_options(command)]
    siblings = [each for each in every if each.rpartition(".")[0] == group]
    valid = suggested(key, siblings or sorted({each.partition(".")[0] for each in every}))
    owners = [other for other in COMMANDS if any(f"{key}.".startswith(f"{each}.") for each in options(other))]
    elsewhere = f" of {command}, but of {' and of '.join(owners)}" if owners else ""
    return f"no option {key!r}{elsewhere}: {valid}"


def _of_required(command: str, message: str, found: re.Match[str]) -> str | None:
    names = found[1].replace(f"{command}.", "")
    config = "give a config that has them, such as --config animals; " if COMMANDS[command].trainer else ""
    return f"these options are missing: {names}; {config}srsoup {command} --help tells more"


def _options(command: str) -> Iterator[str]:
    yield from options(command)
    if COMMANDS[command].trainer:
        from lightning.pytorch import Trainer

        yield from (f"trainer.{name}" for name in inspect.signature(Trainer).parameters)


def _of_argument(command: str, message: str, found: re.Match[str]) -> str | None:
    path, name = found.groups()
    valid = inspect.signature(resolve_name(path)).parameters
    return f"{_where(message)}: {path.rpartition('.')[2]} has no argument {name!r}: {suggested(name, valid)}"


def _of_attribute(command: str, message: str, found: re.Match[str]) -> str | None:
    module, name = found.groups()
    values = {each: getattr(resolve_name(module), each) for each in getattr(resolve_name(module), "__all__", ())}
    valid = _fitting([each for each in values.values() if inspect.isclass(each)], _expected(command, message))
    return f"{_where(message)}: {module} has no {name!r}: {suggested(name, valid)}" if valid else None


def _of_short_name(command: str, message: str, found: re.Match[str]) -> str | None:
    valid = _fitting(_subclasses(_expected(command, message)), ())
    return (
        f"{_where(message)}: no class {found[1]!r}: {suggested(found[1], valid)}, or give an import path"
        if valid
        else None
    )


def _of_function(command: str, message: str, found: re.Match[str]) -> str | None:
    path = found[1]
    return f"{_where(message)}: {path} is no reward: a function of images is one as {{NAME: {{class_path: {path}}}}}"


def _where(message: str) -> str:
    """Key of the value that a message is about. A key inside another stands behind it."""
    return ".".join(KEY.findall(message))


def _expected(command: str, message: str) -> tuple[type, ...]:
    """Classes of the parameter that a message is about; none where they are unknown."""
    *_, key = KEY.findall(message)
    paths = CLASS_PATH.findall(message.partition(f'Parser key "{key}"')[0])
    if paths:
        owner = resolve_name(paths[-1])
    else:
        prefix, _, key = key.rpartition(".")
        owner = resolve_name({**OWNERS, **COMMANDS[command].callbacks}.get(prefix, COMMANDS[command].function))
    try:
        hints = get_type_hints(owner.__init__ if inspect.isclass(owner) and not is_dataclass(owner) else owner)
    except NameError:  # of a type that only type checkers import
        return ()
    return tuple(each for each in _inside(hints.get(key)) if inspect.isclass(each))


def _inside(hint: Any) -> Iterator[Any]:  # noqa: ANN401 - a type hint has no type of its own
    """Types in a type hint."""
    yield hint
    for argument in get_args(hint):
        yield from _inside(argument)


def _subclasses(classes: Iterable[type]) -> Iterator[type]:
    """Yield classes with all their subclasses, without those of Python."""
    for each in classes:
        if each.__module__.partition(".")[0] not in sys.stdlib_module_names:
            yield each
            yield from _subclasses(each.__subclasses__())


def _fitting(classes: Iterable[type], expected: tuple[type, ...]) -> list[str]:
    """Names of the public classes among some that can be made."""
    fitting = (each for each in classes if not expected or issubclass(each, expected))
    names = (each.__name__ for each in fitting if not inspect.isabstract(each))
    return sorted({name for name in names if not name.startswith("_")}, key=str.lower)


EXPLANATIONS: dict[re.Pattern[str], Callable[[str, str, re.Match[str]], str | None]] = {
    OPTION: _of_option,
    REQUIRED: _of_required,
    ARGUMENT: _of_argument,
    ATTRIBUTE: _of_attribute,
    NO_CLASS: _of_function,
    SHORT_NAME: _of_short_name,
}
