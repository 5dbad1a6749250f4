"""Names of options that have changed: an error names the new one."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from srsoup_lightning.cli.yaml_file import read_yaml

RENAMED = {
    "model.judging": "model.oracle",
    "model.loading.adapter": "model.loading.backbone",
    "model.soup_bounds": "model.soup_limits",
    "model.run_bounds": "model.run_limits",
    "summary.bounds": "summary.box",
    "tensorboard.bounds": "tensorboard.box",
    "bounds": "box",
}
"""Old key to the new one, as dotted paths in a config."""

AUTO = "srsoup_lightning.samplers.Auto"
SHARING = "model.sampler.init_args.sharing"
CONFIGS = (".yaml", ".yml", ".json")
Entry = tuple[str, object]  # dotted key and value


def refuse_renamed(command: str, arguments: Sequence[str]) -> None:
    """Check a command line and its configs.

    Args:
        command: Name of the command.
        arguments: The command line after it.

    Raises:
        ArgumentError: An option has an old name.
        OSError, ValueError: A config can't be read; see :func:`~srsoup_lightning.cli.yaml_file.read_yaml`.
    """
    for argument, value in options_of(arguments):
        if argument in ("config", "c"):
            refuse_renamed_keys(read_yaml(Path(value)) if _is_there(Path(value)) else _parsed(value), value, command)
        else:
            is_config = Path(value).suffix in CONFIGS and _is_there(Path(value))
            content = read_yaml(Path(value)) if is_config else _parsed(value)
            refuse_renamed_keys({argument: content}, "the command line", command)


def refuse_renamed_keys(config: object, source: str, command: str = "predict") -> None:
    """Check the keys of a config.

    Args:
        config: Content of the config, with nested or dotted keys.
        source: File of the config, for the message.
        command: Name of the command. Its own key may enclose the config.

    Raises:
        ArgumentError: A key has an old name.
    """
    for key, value in entries_of(config):
        key = key.removeprefix(f"{command}.")
        for old, new in RENAMED.items():
            if key == old or key.startswith(f"{old}."):
                raise ArgumentError(None, f"{source}: {old} is called {new} now: rename it")
        if _is_auto_as_sharing(key, value):
            raise ArgumentError(
                None, f"{source}: {SHARING}: Auto is a sampler now: write model.sampler: {{class_path: {AUTO}}}"
            )


def _is_auto_as_sharing(key: str, value: object) -> bool:
    path = [part for part in key.removesuffix(".class_path").split(".") if part != "init_args"]
    return path == ["model", "sampler", "sharing"] and value in (AUTO, AUTO.rpartition(".")[2])


def entries_of(value: object, path: str = "") -> Iterator[Entry]:
    """Keys and values of nested mappings, the inner ones too."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            key = f"{path}.{name}" if path else str(name)
            yield key, inner
            yield from entries_of(inner, key)


def options_of(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options without their dashes, each with its value. The value is "" where there is none."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            yield name.removesuffix("+"), value if equals else following


def _is_there(path: Path) -> bool:
    """Whether a config is there. A folder may have the name of a builtin config."""
    return path.exists() and not path.is_dir()


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # the command's own parser says so
        return None
