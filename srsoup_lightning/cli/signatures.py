"""Signatures and docstrings of classes and functions, read from their sources. Help then imports no heavy library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import docstring_parser

Definition = ast.ClassDef | ast.FunctionDef
MISSING = object()  # default of a required parameter
COMPUTED = object()  # default that is no plain value
ROLE = re.compile(r":\w+:`~?(?:[^`]*\.)?([^`.]+)`|``([^`]*)``")  # markup of docstrings


class Parameter(NamedTuple):
    """Parameter of a function or a class.

    Attributes:
        name: Name.
        annotation: Source of its type; "" without one.
        default: Its default, MISSING or COMPUTED.
        help: Its description in the docstring.
        nested: Signature of its type, where this is a dataclass whose fields are options of their own.
    """

    name: str
    annotation: str
    default: Any
    help: str
    nested: Signature | None


class Signature(NamedTuple):
    """Parameters of a function or a class.

    Attributes:
        description: Its docstring, without the sections of arguments and errors.
        parameters: Parameters in their order.
    """

    description: str
    parameters: list[Parameter]


def signature(path: str) -> Signature:
    """Read a signature.

    Args:
        path: "module:name" of a function, a class or "module:Class.method". The name may be imported there.

    Raises:
        LookupError: There is no such definition.
    """
    module, _, name = path.partition(":")
    outer, _, method = name.partition(".")
    module, definition = _definition(module, outer)
    if method:
        definition = next(node for node in _definitions(definition.body) if node.name == method)
    docstring = docstring_parser.parse(ast.get_docstring(definition) or "")
    helps = {entry.arg_name: _plain(entry.description or "") for entry in docstring.params}
    parameters = [
        Parameter(name, annotation, _value(default), helps.get(name, ""), _nested(module, default))
        for name, annotation, default in _parameters(definition)
    ]
    return Signature(_plain(docstring.description or ""), parameters)


@cache
def _tree(module: str) -> ast.Module:
    top, *inner = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        raise LookupError(f"no module {module}")
    path = Path(spec.origin).parent.joinpath(*inner)
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def _definition(module: str, name: str) -> tuple[str, Definition]:
    """Return a class or a function, and the module that defines it. The one that is given may import it."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(node.module, alias.name)
    raise LookupError(f"no {name} in {module}")


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    return (node for node in body if isinstance(node, Definition))


def _parameters(definition: Definition) -> Iterator[tuple[str, str, ast.expr | None]]:
    """Yield name, annotation and default of the parameters of a function, of an __init__, or of a dataclass."""
    function: Definition | None = definition
    if isinstance(definition, ast.ClassDef):
        function = next((node for node in _definitions(definition.body) if node.name == "__init__"), None)
    if isinstance(function, ast.FunctionDef):
        given, defaults = function.args.args, function.args.defaults
        for argument, default in zip(given, [*[None] * (len(given) - len(defaults)), *defaults], strict=True):
            if argument.arg != "self":
                yield argument.arg, ast.unparse(argument.annotation) if argument.annotation else "", default
        return
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation), node.value


def _value(default: ast.expr | None) -> Any:  # noqa: ANN401 - any plain value
    """Value of the source of a default."""
    if default is None:
        return MISSING
    if isinstance(default, ast.Call):  # of dataclasses.field
        given = {keyword.arg: keyword.value for keyword in default.keywords}
        if "default_factory" in given:
            return {"dict": {}, "list": []}.get(ast.unparse(given["default_factory"]), COMPUTED)
        return _value(given["default"]) if "default" in given else COMPUTED
    try:
        return ast.literal_eval(default)
    except ValueError:
        return COMPUTED


def _nested(module: str, default: ast.expr | None) -> Signature | None:
    """Signature of the dataclass whose instance without arguments is a default."""
    if not (isinstance(default, ast.Call) and isinstance(default.func, ast.Name)) or default.args or default.keywords:
        return None
    return signature(f"{module}:{default.func.id}")


def _plain(text: str) -> str:
    """Text of a docstring without markup."""
    return ROLE.sub(lambda match: match[1] or match[2], text)
