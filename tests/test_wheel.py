"""The wheel, away from the sources: configs and checkpoints are found by name from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_configs import quick

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    dist, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = dist.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return target


SCRIPT = """
import runpy, sys
import rewards, srsoup_lightning
from srsoup_lightning.report.gallery import write_gallery
print(srsoup_lightning.__file__, rewards.__file__)
try:
    runpy.run_module("srsoup_lightning", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
write_gallery(["runs/animals"], "page.html")
"""


def test_it_runs_from_an_empty_folder_and_its_packages_are_typed(site: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", SCRIPT, "predict", "--config", "animals", *quick("animals")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].count(str(site)) == 2
    assert len(list(tmp_path.glob("runs/animals/samples/a-lobster-*/0/*.png"))) == 6
    assert "a lobster" in (tmp_path / "page.html").read_text()
    assert (site / "srsoup_lightning" / "py.typed").is_file()
    assert (site / "rewards" / "py.typed").is_file()
