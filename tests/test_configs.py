from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from benchmarks.reward_networks import save_aesthetic_head
from srsoup_lightning.cli import SoupCLI, main
from srsoup_lightning.run_directory import RunDirectory
from srsoup_lightning.shipped import CONFIGS
from tests.diffusion.conftest import tiny_pipeline
from tests.diffusion.pipelines import make
from tests.rewards.conftest import WIDTH, save_tiny_clip

QUICK = ["--data.prompts", "[a lobster]", "--model.sampler.num_inference_steps", "4", "--model.sampler.candidates", "2"]


def settings_of(name: str) -> dict:
    path = CONFIGS.find(name)
    assert path is not None
    return yaml.safe_load(path.read_text())


SHIPPED = [name for name in CONFIGS.names() if settings_of(name)["model"]["pipeline"] == "tiny-animals"]
PUBLISHED = [name for name in CONFIGS.names() if name not in SHIPPED]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_config_of_the_shipped_model_runs_on_fewer_steps(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    settings = settings_of("animals")
    assert len(settings["data"]["prompts"]) == 6
    assert set(settings["model"]["rewards"]) == {"jpeg", "clip"}
    assert settings["model"]["preferences"]["init_args"]["divisions"] == 5


def test_what_is_offered_so_far() -> None:
    assert set(SoupCLI.subcommands()) == {"predict", "plan"}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models, in the format of those that the published configs name."""
    root = tmp_path_factory.mktemp("twins")
    pipelines = {"sd15": tiny_pipeline(), "sdxl": make("SDXL"), "sd35": make("SD 3")}
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
    pipelines["sdxl"].vae.save_pretrained(root / "vae")
    save_tiny_clip(root / "clip")
    save_aesthetic_head(root, WIDTH)
    return {name: str(root / name) for name in (*pipelines, "vae", "clip", "head.safetensors")}


def twin_of(name: str, twins: dict[str, str], folder: Path) -> Path:
    """A published config with tiny models in place of those that it names, and nothing else changed."""
    settings = settings_of(name)
    model = settings["model"]
    model["pipeline"] = twins[name.split("_")[0]]
    model["loading"] |= {"height": 16, "width": 16, "dtype": "float32"}
    model["loading"].pop("variant", None)
    if "vae" in model["loading"]:
        model["loading"]["vae"] = twins["vae"]
    for reward in model["rewards"].values():
        if reward["class_path"] != "rewards.JPEGCompressibility":
            reward["init_args"] = {"model": twins["clip"]}
        if reward["class_path"] == "rewards.AestheticScore":
            reward["init_args"]["head"] = twins["head.safetensors"]
    path = folder / "twin.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_s_tiny_twin_runs(name: str, twins: dict[str, str], tmp_path: Path) -> None:
    config = str(twin_of(name, twins, tmp_path))
    assert main(["predict", "--config", config, *QUICK, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    rows = list(RunDirectory(tmp_path / "run").sample_rows())
    assert len(rows) == (13 if "three" in name else 6)
    assert set(rows[0]["rewards"]) == set(settings_of(name)["model"]["rewards"])
    assert all(math.isfinite(score) for row in rows for score in row["rewards"].values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_planned_without_its_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """N a step and anchor in the soup phase, then for every reward with weight of every preference."""
    settings = settings_of(name)["model"]
    points, end = settings["preferences"]["init_args"], settings["sampler"]["init_args"]["sharing"]["init_args"]["end"]
    rewards = len(points["rewards"])
    columns = rewards + rewards * (13 - rewards if "three" in name else 4)
    assert main(["plan", "--config", name]) == 0
    queries = 30 * (rewards * end + columns * (50 - end)) // rewards
    assert f"{queries:,}" in capsys.readouterr().out
