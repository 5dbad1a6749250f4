"""The rules of the house, read off the sources: imports, cycles, sizes and docstrings."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "srsoup_lightning"
CHECKS = "rewards.checks"
ADAPTERS = ("diffusers", "transformers", "peft")
LIGHTNING = ("lightning", "pytorch_lightning")
ENTRANCE_HALL, LONGEST_FILE, LONGEST_BODY = 10, 250, 50


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


PURE = ours(*(f"diffusion.{name}" for name in ("transition", "flow", "schedule", "noise", "precision", "process")))
MATHS = ("torch", CHECKS, *PURE, *ours("search", "preferences", "costs", "adapters"))
SAMPLING = (*MATHS, *ours("samplers", "results", "problem", "diffusion.denoiser"))
TUNING = (*SAMPLING, "peft", *ours("finetune", "diffusion.backbone"))
RESULTS = Rule(
    never=(*ADAPTERS, "rewards", *ours("samplers", "problem", "oracle", "diffusion", "search")),
    save=(CHECKS, "rewards.eight_bit", "rewards.pictures", *ours("samplers.result")),
)
RULES = {
    **dict.fromkeys((*MATHS[2:], *ours("diffusion.denoiser")), Rule(only=MATHS)),
    # Diffusers keeps its schedules in numpy arrays, and its schedulers choose the timesteps.
    f"{OURS}.diffusion.schedule": Rule(only=(*MATHS, "numpy", "diffusers")),
    f"{OURS}.diffusion": Rule(
        never=(*LIGHTNING, "rewards", *ours("samplers", "search", "problem", "oracle", "costs")),
        save=(CHECKS, "rewards.networks.hub", "rewards.networks.silence"),
    ),
    f"{OURS}.oracle": Rule(only=("torch", CHECKS, *ours("oracle", "costs"))),
    f"{OURS}.problem": Rule(only=(*MATHS, *ours("problem", "diffusion.denoiser", "oracle"))),
    f"{OURS}.samplers": Rule(only=SAMPLING),
    # The rehearsal builds a Problem, which needs an oracle.
    f"{OURS}.samplers.rehearsal": Rule(only=(*SAMPLING, *ours("oracle"))),
    f"{OURS}.samplers.hooks": Rule(only=(*SAMPLING, *LIGHTNING, *ours("data", "oracle"))),
    f"{OURS}.samplers.base": Rule(never=ours("samplers"), save=ours("samplers.result")),
    f"{OURS}.samplers.result": Rule(never=ours("samplers", "problem", "oracle")),
    f"{OURS}.results": Rule(only=("torch", "PIL", *ours("results", "runs", "costs"))),
    f"{OURS}.finetune": Rule(only=TUNING),
    f"{OURS}.finetune.hooks": Rule(only=(*TUNING, *LIGHTNING)),
    f"{OURS}.finetune.rehearsal": Rule(only=(*TUNING, *ours("oracle"))),
    # Pairs of pictures and kept searches come from run directories and score tables.
    f"{OURS}.finetune.picture_pairs": Rule(only=(*TUNING, "rewards.pictures", *ours("runs"))),
    **dict.fromkeys(ours("finetune.in_context", "finetune.kept_searches"), Rule(only=(*TUNING, *ours("runs")))),
    f"{OURS}.pareto": Rule(only=("torch", "torchmetrics", "moocore", "numpy", CHECKS, *ours("pareto"))),
    f"{OURS}.module": Rule(
        never=(*ADAPTERS, "rewards", *ours("samplers", "diffusion", "search")),
        save=(
            *("rewards.Reward", "rewards.base", "rewards.function_reward", CHECKS),
            *ours("samplers.base", "samplers.hooks", "samplers.result", "samplers.rehearsal"),
            *ours("diffusion.backbone", "diffusion.loading", "diffusion.precision"),
            *ours("diffusion.process"),
        ),
    ),
    **dict.fromkeys(ours("data", "callbacks", "report", "runs"), RESULTS),
    "rewards": Rule(never=(OURS, *LIGHTNING, "diffusers")),
    CHECKS: Rule(only=()),
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


SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for package in (OURS, "rewards")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def require_none(found: dict[str, list[str]]) -> None:
    """Fail with a line for every module with findings."""
    lines = [f"{module}: {', '.join(names)}" for module, names in found.items() if names]
    if lines:
        pytest.fail("\n".join(lines))


@pytest.mark.parametrize("package", RULES)
def test_imports_keep_to_the_rules_of_the_house(package: str) -> None:
    rule = RULES[package]
    # Of two rules that list the allowed imports, the one of the smaller package holds.
    narrower = tuple(other for other in RULES if inside(other, (package,)) and other != package and RULES[other].only)
    modules = [name for name in SOURCES if inside(name, (package,)) and not (rule.only and inside(name, narrower))]
    assert modules
    require_none({name: rule.breaches(SOURCES[name]) for name in modules})


def test_the_entry_point_alone_imports_the_command_line() -> None:
    rule = Rule(never=ours("cli"))
    found = [name for name, source in SOURCES.items() if rule.breaches(source) and not inside(name, ours("cli"))]
    assert found == [f"{OURS}.__main__"]


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


def cycle(graph: dict[str, set[str]]) -> set[str]:
    """Modules of a cycle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()


def room(module: str) -> str:
    """The folder of a module, or the module itself where it stands in the entrance hall or is a reward."""
    return ".".join(module.split(".")[:2])


def test_no_modules_and_no_rooms_import_one_another() -> None:
    modules, rooms = import_graph(SOURCES), {}
    for module, found in modules.items():
        rooms.setdefault(room(module), set()).update({room(name) for name in found} - {room(module)})
    assert not cycle(modules)
    assert not cycle(rooms)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({"a": "import b", "b": "import c", "c": ""}, set()),
        ({"a": "import b", "b": "def late():\n    import a", "c": "import a"}, {"a", "b"}),
        ({"a": "if TYPE_CHECKING:\n    from a.b import C", "a.b": "from a import D"}, {"a", "a.b"}),
        ({"a": "import a"}, {"a"}),
    ],
)
def test_a_cycle_is_found(modules: dict[str, str], expected: set[str]) -> None:
    assert cycle(import_graph(modules)) == expected


def test_the_entrance_hall_is_small() -> None:
    files = [path.name for path in (ROOT / OURS).iterdir() if path.is_file()]
    assert len(files) <= ENTRANCE_HALL, files


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


FACTORIES = {"empty", "eye", "full", "linspace", "logspace", "normal", "ones", "rand", "randn", "tensor", "zeros"}


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
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found += ["it prints" for call in calls if ast.unparse(call.func) == "print"]
    return found + [f"{ast.unparse(call.func)} without a dtype" for call in calls if depends_on_default_dtype(call)]


def depends_on_default_dtype(call: ast.Call) -> bool:
    """Whether it makes a tensor of the default precision, which the code of others may have set."""
    module, _, name = ast.unparse(call.func).rpartition(".")
    return module == "torch" and name in FACTORIES and "dtype" not in {keyword.arg for keyword in call.keywords}


def test_files_are_short_and_documented() -> None:
    require_none({name: complaints(source) for name, source in SOURCES.items()})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n    """Shortly."""\n' + "    pass\n" * 50, []),
        ('def f():\n    """Shortly."""\n' + "    pass\n" * 51, ["f has a body of 51 lines"]),
        ("pass\n" * 251, ["251 lines"]),
        ("class C: pass\ndef _f(): pass", ["C has no docstring"]),
        ('"""What it is."""', ["the docstring of the module begins with What"]),
        ('def _f():\n    """What it does."""\n    print(1)', ["the docstring of _f begins with What", "it prints"]),
        ("torch.zeros(2, dtype=x.dtype), torch.randn(2)", ["torch.randn without a dtype"]),
    ],
)
def test_a_complaint_is_found(source: str, expected: list[str]) -> None:
    assert complaints(source) == expected
