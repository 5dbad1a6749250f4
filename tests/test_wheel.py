"""The wheel, away from the sources: configs and checkpoints are found by name from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_configs import QUICK

ROOT = Path(__file__).parents[1]


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


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_what_ships_runs_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    where = run(
        site, tmp_path, "-c", "import srsoup_lightning, rewards; print(srsoup_lightning.__file__, rewards.__file__)"
    )
    assert where.stdout.count(str(site)) == 2
    done = run(site, tmp_path, "-m", "srsoup_lightning", "predict", "--config", "animals", *QUICK)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/animals/samples/a-lobster-*/0/*.png"))) == 6
    page = "from srsoup_lightning.report.gallery import gallery; gallery(['runs/animals'], 'page.html')"
    assert run(site, tmp_path, "-c", page).returncode == 0
    assert "a lobster" in (tmp_path / "page.html").read_text()


def test_the_packages_say_that_they_are_typed(site: Path) -> None:
    assert (site / "srsoup_lightning" / "py.typed").is_file()
    assert (site / "rewards" / "py.typed").is_file()
