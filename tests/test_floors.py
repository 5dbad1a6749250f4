"""The lowest versions that pyproject.toml allows are those of floors.txt, with which the tests pass."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_every_lower_bound_is_the_version_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [needed for name, each in project["optional-dependencies"].items() if name != "dev" for needed in each]
    lines = [line for line in (ROOT / "floors.txt").read_text().splitlines() if not line.startswith("#")]
    tested = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    for needed in map(Requirement, [*project["dependencies"], *extras]):
        (bound,) = needed.specifier
        assert (bound.operator, Version(bound.version)) == (">=", tested[canonicalize_name(needed.name)]), needed
