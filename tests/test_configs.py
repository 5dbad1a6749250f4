from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from srsoup_lightning.cli import SoupCLI, main
from srsoup_lightning.run_directory import RunDirectory
from srsoup_lightning.shipped import CONFIGS

QUICK = ["--data.prompts", "[a lobster]", "--model.sampler.num_inference_steps", "4", "--model.sampler.candidates", "2"]


@pytest.mark.parametrize("name", CONFIGS.names())
def test_every_config_runs_on_fewer_steps(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", name, *QUICK, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    run = RunDirectory(tmp_path / "run")
    saved = yaml.safe_load(run.config.read_text())
    points = saved["model"]["preferences"]["init_args"]
    rows = list(run.sample_rows())
    others = len(points["rewards"]) - 1
    assert len(rows) == math.comb(points["divisions"] + others, others)
    assert set(rows[0]["rewards"]) == set(points["rewards"])
    assert all((run.root / row["image"]).is_file() for row in rows)
    assert len(list(run.sheets.iterdir())) == 1
    assert "hypervolume" in capsys.readouterr().out


def test_the_demo_is_what_the_readme_says() -> None:
    path = CONFIGS.find("animals")
    assert path is not None
    settings = yaml.safe_load(path.read_text())
    assert len(settings["data"]["prompts"]) == 6
    assert set(settings["model"]["rewards"]) == {"jpeg", "clip"}
    assert settings["model"]["preferences"]["init_args"]["divisions"] == 5


def test_what_is_offered_so_far() -> None:
    assert set(SoupCLI.subcommands()) == {"predict", "plan"}
