"""Classes of the user's own, in the current folder and beside a config; and files that shadow the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
REWARD = """
from rewards import Reward

class Mine(Reward):
    def score(self, images, prompts):
        return images.new_full((len(images),), {value})
"""
# As the installed command, which unlike `python -m` does not search the current folder.
COMMAND = [sys.executable, "-P", "-c", "from srsoup_lightning.cli.main import console; console()"]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_classes_of_the_current_folder_and_of_the_config_s_have_import_paths(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, module, value in ((here, "of_the_folder", 2.0), (there, "of_the_config", 3.0)):
        folder.mkdir()
        (folder / f"{module}.py").write_text(REWARD.format(value=value))
    # The installed package comes first, whatever lies around.
    (here / "torch.py").write_text("raise SystemExit('the wrong torch')")
    Image.new("RGB", (8, 8)).save(here / "picture.png")
    (here / "prompts.txt").write_text("a cat\n")
    both = {module: {"class_path": f"{module}.Mine"} for module in ("of_the_folder", "of_the_config")}
    config = there / "score.yaml"
    config.write_text(json.dumps({"rewards": both, "images": ".", "prompts": "prompts.txt", "out": "out.jsonl"}))
    for given in (["--config", "../there/score.yaml"], ["--config=../there/score.yaml", "--overwrite", "true"]):
        done = run(["score", *given], here)
        assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, (here / "out.jsonl").read_text().splitlines())
    assert row["rewards"] == {"of_the_folder": 2.0, "of_the_config": 3.0}


@pytest.mark.parametrize("name", ["rewards.py", "rewards/__init__.py", "rewards/mine.py"])
def test_a_file_that_shadows_the_package_is_named_by_the_first_import(tmp_path: Path, name: str) -> None:
    script, shadow = tmp_path / "study.py", tmp_path / name
    script.write_text("import srsoup_lightning")
    shadow.parent.mkdir(exist_ok=True)
    shadow.write_text("")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    if name == "rewards/mine.py":  # a folder without __init__.py gives way to a package
        assert done.returncode == 0
        return
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"{shadow} is imported in place of the package rewards of srsoup-lightning: rename it" in line
