"""The rules of the house, read off the sources: imports, cycles, sizes and docstrings."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "srsoup_lightning"
CHECKS = "rewards.checks"
ADAPTERS = ("diffusers", "transformers", "peft")
LIGHTNING = ("lightning", "pytorch_lightning")
ENTRANCE_HALL, LONGEST_FILE, LONGEST_BODY = 10, 250, 50
PURE = ("transition", "flow", "schedule", "noise", "process")


def ours(*names: str) -> tuple[str, ...]:
    return tuple(f"{OURS}.{name}" for name in names)


@dataclass(frozen=True)
class Rule:
    """Packages that a file or a folder may import beside the standard library.

    Args:
        only: Nothing but these, submodules included. None allows anything.
        never: None of these, submodules and the names in them included.
        save: Exceptions from `never`.
    """

    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    save: tuple[str, ...] = ()

    def breaches(self, source: str) -> list[str]:
        return [name for name in imported(source) if name.startswith(".") or not self.allows(name)]

    def allows(self, name: str) -> bool:
        if inside(name, self.never) and not inside(name, self.save):
            return False
        return self.only is None or inside(name, self.only) or name.split(".")[0] in sys.stdlib_module_names


MATHS = ("torch", CHECKS, *ours("search", "preferences", "costs", *(f"diffusion.{name}" for name in PURE)))
# Diffusers builds its schedulers from numpy tables; the schedule reads them and asks a scheduler for its timesteps.
SCHEDULER = ("numpy", "diffusers")
RESULTS = Rule(
    never=(*ADAPTERS, "rewards", *ours("samplers", "problem", "oracle", "diffusion", "search")),
    save=(CHECKS, "rewards.eight_bit", *ours("samplers.result")),
)
RULES = {
    "srsoup_lightning/search": Rule(only=MATHS),
    **{f"srsoup_lightning/diffusion/{name}.py": Rule(only=MATHS) for name in PURE},
    "srsoup_lightning/diffusion/schedule.py": Rule(only=(*MATHS, *SCHEDULER)),
    "srsoup_lightning/diffusion/denoiser.py": Rule(only=MATHS),
    "srsoup_lightning/diffusion": Rule(
        never=(*LIGHTNING, "rewards", *ours("samplers", "search", "problem", "oracle", "costs")),
        save=(CHECKS, "rewards.networks.silence"),
    ),
    "srsoup_lightning/preferences.py": Rule(only=MATHS),
    "srsoup_lightning/costs": Rule(only=MATHS),
    "srsoup_lightning/oracle": Rule(only=("torch", CHECKS, *ours("oracle", "costs"))),
    "srsoup_lightning/problem.py": Rule(only=(*MATHS, *ours("diffusion.denoiser", "oracle"))),
    "srsoup_lightning/samplers": Rule(only=(*MATHS, *ours("samplers", "problem", "diffusion.denoiser"))),
    # The rehearsal counts against a problem of its own, and a problem is made of an oracle.
    "srsoup_lightning/samplers/rehearsal.py": Rule(
        only=(*MATHS, *ours("samplers", "problem", "diffusion.denoiser", "oracle"))
    ),
    "srsoup_lightning/samplers/base.py": Rule(never=ours("samplers"), save=ours("samplers.result")),
    "srsoup_lightning/samplers/result.py": Rule(never=ours("samplers", "problem", "oracle")),
    "srsoup_lightning/pareto": Rule(only=("torch", "torchmetrics", "moocore", "numpy", CHECKS, *ours("pareto"))),
    "srsoup_lightning/module.py": Rule(
        never=(*ADAPTERS, "rewards", *ours("samplers", "diffusion", "search")),
        save=(
            "rewards.Reward",
            "rewards.base",
            CHECKS,
            *ours("samplers.base", "samplers.result", "samplers.rehearsal"),
            *ours("diffusion.backbone", "diffusion.loading", "diffusion.process"),
        ),
    ),
    "srsoup_lightning/data.py": RESULTS,
    "srsoup_lightning/callbacks": RESULTS,
    "srsoup_lightning/report": RESULTS,
    "srsoup_lightning/runs": RESULTS,
    "rewards": Rule(never=(OURS, *LIGHTNING, "diffusers")),
    "rewards/checks.py": Rule(only=()),
}


def imported(source: str) -> list[str]:
    """Dotted names that a source imports anywhere, late and for type checkers too. Relative ones start with a dot."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names += [f"{module}.{name.name}" for name in node.names]
    return names


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def sources(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path.read_text() for folder in (OURS, "rewards") for path in sources(ROOT / folder)}


def breaches(rule: Rule, paths: list[Path]) -> dict[str, list[str]]:
    found = {module_name(path): rule.breaches(path.read_text()) for path in paths}
    return {name: names for name, names in found.items() if names}


@pytest.mark.parametrize(("place", "rule"), RULES.items(), ids=RULES)
def test_imports_keep_to_the_rules_of_the_house(place: str, rule: Rule) -> None:
    paths = sources(ROOT / place)
    # A file with a rule of its own keeps to that one where both say what may be imported.
    own = {ROOT / other for other, its in RULES.items() if other != place and its.only is not None}
    paths = [path for path in paths if rule.only is None or path not in own]
    assert paths
    assert not breaches(rule, paths)


def test_nothing_sees_the_command_line_but_the_entry_point() -> None:
    rule = Rule(never=ours("cli"))
    seen = [name for name, source in SOURCES.items() if rule.breaches(source) and not inside(name, ours("cli"))]
    assert seen == [f"{OURS}.__main__"]


@pytest.mark.parametrize(
    ("source", "rule", "expected"),
    [
        ("import torch.nn, math", Rule(only=("torch",)), []),
        ("import torchvision", Rule(only=("torch",)), ["torchvision"]),
        ("def late():\n    from diffusers import X", Rule(never=("diffusers",)), ["diffusers.X"]),
        ("from a import b, c", Rule(never=("a.b",)), ["a.b"]),
        ("from a.b import c", Rule(never=("a",), save=("a.b",)), []),
        ("from a import Base, Other", Rule(never=("a",), save=("a.Base",)), ["a.Other"]),
        ("from . import b", Rule(), ["..b"]),
    ],
)
def test_a_breach_of_the_rules_is_found(source: str, rule: Rule, expected: list[str]) -> None:
    assert rule.breaches(source) == expected


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Modules among the sources that each of them imports; a name that is no module belongs to its package."""
    graph = {}
    for module, source in sources.items():
        names = imported(source)
        graph[module] = {name if name in sources else name.rpartition(".")[0] for name in names} & set(sources)
    return graph


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Strongly connected components of more than one node, and nodes with an edge to themselves."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        found, waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        reached[start] = found
    return {
        frozenset(other for other in reached[node] if node in reached[other]) for node in graph if node in reached[node]
    }


def test_no_modules_import_one_another() -> None:
    assert not cycles(import_graph(SOURCES))


def room(module: str) -> str:
    """The folder of a module, or the module itself where it stands in the entrance hall or is a reward."""
    return ".".join(module.split(".")[:2])


def test_no_rooms_import_one_another() -> None:
    graph: dict[str, set[str]] = {}
    for module, found in import_graph(SOURCES).items():
        graph.setdefault(room(module), set()).update({room(name) for name in found} - {room(module)})
    assert not cycles(graph)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({"a": "import b", "b": "import c", "c": ""}, set()),
        ({"a": "import b", "b": "def late():\n    import a", "c": "import a"}, {frozenset("ab")}),
        ({"a": "if TYPE_CHECKING:\n    from a.b import C", "a.b": "from a import D"}, {frozenset({"a", "a.b"})}),
        ({"a": "import a"}, {frozenset("a")}),
    ],
)
def test_a_cycle_is_found(modules: dict[str, str], expected: set[frozenset[str]]) -> None:
    assert cycles(import_graph(modules)) == expected


def test_the_entrance_hall_is_small() -> None:
    files = [path.name for path in (ROOT / OURS).iterdir() if path.is_file()]
    assert len(files) <= ENTRANCE_HALL, files


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.AST) -> Iterator[Definition]:
    return (node for node in ast.walk(tree) if isinstance(node, Definition))


def complaints(source: str) -> list[str]:
    """Sentences about a source that is too long, lacks a docstring or prints."""
    tree = ast.parse(source)
    lines = len(source.splitlines())
    found = [f"{lines} lines"] if lines > LONGEST_FILE else []
    for node in definitions(tree):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if not isinstance(node, ast.ClassDef) and length > LONGEST_BODY:
            found.append(f"{node.name} has a body of {length} lines")
        if node in tree.body and not node.name.startswith("_") and not ast.get_docstring(node):
            found.append(f"{node.name} has no docstring")
    for node in (tree, *definitions(tree)):
        if (ast.get_docstring(node) or "").startswith("What"):
            found.append(f"the docstring of {getattr(node, 'name', 'the module')} begins with What")
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return found + ["it prints" for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_files_are_short_and_documented() -> None:
    found = {name: complaints(source) for name, source in SOURCES.items()}
    assert not {name: said for name, said in found.items() if said}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n    """Shortly."""\n' + "    pass\n" * 50, []),
        ('def f():\n    """Shortly."""\n' + "    pass\n" * 51, ["f has a body of 51 lines"]),
        ("pass\n" * 251, ["251 lines"]),
        ("class C: pass\ndef _f(): pass", ["C has no docstring"]),
        ('"""What it is."""', ["the docstring of the module begins with What"]),
        ('def _f():\n    """What it does."""\n    print(1)', ["the docstring of _f begins with What", "it prints"]),
    ],
)
def test_a_complaint_is_found(source: str, expected: list[str]) -> None:
    assert complaints(source) == expected
