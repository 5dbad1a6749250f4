"""Who may import whom: the house rules, read off the sources."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = "srsoup_lightning"
ADAPTERS = ("diffusers", "transformers", "peft")
LIGHTNING = ("lightning", "pytorch_lightning")
CONCRETE = tuple(f"{OURS}.samplers.{name}" for name in ("base_model", "best_of_n", "soup"))


@dataclass(frozen=True)
class Rule:
    """What a file or a package may import beside the standard library and itself.

    Args:
        only: Nothing but these, submodules included; None allows anything.
        never: None of these, submodules and the names in them included.
        save: Exceptions from `never`.
    """

    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    save: tuple[str, ...] = ()


RULES = {
    "srsoup_lightning/search": Rule(only=("torch", f"{OURS}.search")),
    "srsoup_lightning/diffusion/transition.py": Rule(only=("torch",)),
    "srsoup_lightning/diffusion/flow.py": Rule(only=("torch", f"{OURS}.diffusion.transition")),
    "srsoup_lightning/diffusion/denoiser.py": Rule(only=("torch", f"{OURS}.diffusion.transition")),
    "srsoup_lightning/diffusion": Rule(never=(*LIGHTNING, "rewards", f"{OURS}.samplers", f"{OURS}.search")),
    "srsoup_lightning/preferences.py": Rule(only=("torch",)),
    "srsoup_lightning/costs/ledger.py": Rule(only=("torch",)),
    "srsoup_lightning/costs/account.py": Rule(only=()),
    "srsoup_lightning/costs/limits.py": Rule(only=(f"{OURS}.account", f"{OURS}.ledger")),
    "srsoup_lightning/pareto": Rule(only=("torch", "torchmetrics", "moocore", "numpy", f"{OURS}.pareto")),
    "srsoup_lightning/samplers": Rule(
        only=(
            "torch",
            f"{OURS}.samplers",
            f"{OURS}.search",
            f"{OURS}.diffusion.transition",
            f"{OURS}.diffusion.denoiser",
            f"{OURS}.preferences",
            f"{OURS}.ledger",
            f"{OURS}.account",
        )
    ),
    "srsoup_lightning/samplers/base.py": Rule(never=CONCRETE),
    "srsoup_lightning/problem.py": Rule(never=CONCRETE),
    "srsoup_lightning/oracle/oracle.py": Rule(never=CONCRETE),
    "srsoup_lightning/oracle/policy.py": Rule(only=("torch",)),
    "rewards": Rule(never=(OURS, *LIGHTNING, "diffusers")),
    "srsoup_lightning/module.py": Rule(
        never=(*ADAPTERS, "rewards", f"{OURS}.samplers", f"{OURS}.diffusion", f"{OURS}.search"),
        save=(
            "rewards.Reward",
            f"{OURS}.samplers.base",
            f"{OURS}.samplers.judges",
            f"{OURS}.samplers.judging",
            f"{OURS}.samplers.problem",
            f"{OURS}.diffusion.backbone",
            f"{OURS}.diffusion.loading",
            f"{OURS}.diffusion.trust",
        ),
    ),
    "srsoup_lightning/data.py": Rule(never=(*ADAPTERS, "rewards", f"{OURS}.samplers", f"{OURS}.diffusion")),
    "srsoup_lightning/callbacks": Rule(
        never=(*ADAPTERS, "rewards", f"{OURS}.samplers", f"{OURS}.diffusion", f"{OURS}.search"),
        save=(f"{OURS}.samplers.base",),
    ),
    "srsoup_lightning/report": Rule(
        never=(*ADAPTERS, "rewards", f"{OURS}.samplers", f"{OURS}.diffusion", f"{OURS}.search"),
        save=(f"{OURS}.samplers.base",),
    ),
    "srsoup_lightning/runs/directory.py": Rule(
        never=(*ADAPTERS, "rewards", f"{OURS}.samplers", f"{OURS}.diffusion"),
        save=(f"{OURS}.samplers.base",),
    ),
}


def imported(source: str) -> dict[str, list[str]]:
    """Modules imported anywhere in the source, and the dotted names taken from each; relative ones start with a dot."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                found.setdefault(name.name, []).append(name.name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.setdefault(module, []).extend(f"{module}.{name.name}" for name in node.names)
    return found


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(source: str, rule: Rule) -> list[str]:
    found = imported(source)
    relative = [module for module in found if module.startswith(".")]
    beyond = [
        module
        for module in found
        if rule.only is not None
        and not inside(module, rule.only)
        and module.split(".")[0] not in sys.stdlib_module_names
    ]
    forbidden = [
        name for names in found.values() for name in names if inside(name, rule.never) and not inside(name, rule.save)
    ]
    return relative + beyond + forbidden


def sources(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


@pytest.mark.parametrize(("place", "rule"), RULES.items(), ids=RULES)
def test_imports_keep_to_the_rules_of_the_house(place: str, rule: Rule) -> None:
    paths = sources(ROOT / place)
    assert paths
    assert {str(path.relative_to(ROOT)): violations(path.read_text(), rule) for path in paths} == {
        str(path.relative_to(ROOT)): [] for path in paths
    }


def test_nothing_sees_the_command_line_but_the_entry_point() -> None:
    rule = Rule(never=(f"{OURS}.cli",))
    seen = {
        path.name for path in (*sources(ROOT / OURS), *sources(ROOT / "rewards")) if violations(path.read_text(), rule)
    }
    assert seen == {"__main__.py"}


@pytest.mark.parametrize(
    ("source", "rule", "expected"),
    [
        ("import torch.nn, math", Rule(only=("torch",)), []),
        ("import torchvision", Rule(only=("torch",)), ["torchvision"]),
        ("def late():\n    from diffusers import X", Rule(never=("diffusers",)), ["diffusers.X"]),
        ("from a import b, c", Rule(never=("a.b",)), ["a.b"]),
        ("from a.b import c", Rule(never=("a",), save=("a.b",)), []),
        ("from a import Base, Other", Rule(never=("a",), save=("a.Base",)), ["a.Other"]),
        ("from . import b", Rule(), ["."]),
    ],
)
def test_a_breach_of_the_rules_is_found(source: str, rule: Rule, expected: list[str]) -> None:
    assert violations(source, rule) == expected
