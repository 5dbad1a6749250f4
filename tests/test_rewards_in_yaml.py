"""Rewards that wrap other people's code, from a YAML file through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import Tensor

from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.directory import RunDirectory
from tests.cli.test_main import MODEL
from tests.rewards.conftest import pictures, smooth

YAML = """
path:
  class_path: rewards.FunctionReward
  init_args:
    function: tests.rewards.conftest.redness
object:
  class_path: rewards.FunctionReward
  init_args:
    function:
      class_path: tests.test_rewards_in_yaml.Channel
      init_args: {index: 2}
    each: true
    on_cpu: true
metric:
  class_path: rewards.MetricReward
  init_args:
    metric:
      class_path: torchmetrics.image.TotalVariation
      init_args: {reduction: mean}
compared:
  class_path: rewards.MetricReward
  init_args:
    metric:
      class_path: torchmetrics.image.PeakSignalNoiseRatio
      init_args: {data_range: 1.0}
    reference: REFERENCE
function:
  class_path: tests.rewards.conftest.redness
alone:
  class_path: tests.test_rewards_in_yaml.blueness
nested:
  class_path: rewards.MetricReward
  init_args:
    metric:
      class_path: rewards.Brightness
      init_args: {target: 0.25}
    with_prompts: true
size:
  class_path: rewards.JPEGSize
  init_args: {target: 0.7, quality: 50}
symmetry:
  class_path: rewards.Symmetry
  init_args: {mirror: top-bottom}
"""


def blueness(images: Tensor) -> Unknown:  # noqa: F821 - as of a type that only type checkers import
    return images[:, 2].mean((1, 2))


class Channel:
    """A user's function with an argument, for one image at a time."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, image: Tensor, prompt: str) -> float:
        return image[self.index].mean().item()


def config(folder: Path, rewards: dict) -> str:
    lattice = MODEL["preferences"] | {"init_args": {"rewards": list(rewards), "divisions": 1}}
    settings = {
        "model": MODEL | {"rewards": rewards, "preferences": lattice},
        "data": {"prompts": ["a cat"], "seeds": [0]},
        "trainer": {"accelerator": "cpu", "default_root_dir": str(folder / "run")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("rewards")
    pictures(smooth(8, 8)[:1])[0].save(folder / "reference.png")
    rewards = yaml.safe_load(YAML.replace("REFERENCE", str(folder / "reference.png")))
    assert main(["predict", "--config", config(folder, rewards)]) == 0
    return RunDirectory(folder / "run")


def test_functions_metrics_and_rewards_within_rewards(run: RunDirectory) -> None:
    rewards = yaml.safe_load(run.config.read_text())["model"]["rewards"]
    assert rewards["path"]["init_args"]["function"].endswith("ness")
    assert set(rewards) == set(yaml.safe_load(YAML))
    rows = list(run.image_rows())
    assert len(rows) == len(rewards)
    for row in rows:
        assert set(row.rewards) == set(rewards)
        assert row.rewards["metric"] < 0 < row.rewards["compared"]
        red, _, blue = np.asarray(Image.open(run.root / row.image)).mean((0, 1)) / 255
        assert row.rewards["function"] == row.rewards["path"]
        assert row.rewards["alone"] == pytest.approx(row.rewards["object"], abs=1e-6)
        assert row.rewards["path"] == pytest.approx(red, abs=0.003)
        assert row.rewards["object"] == pytest.approx(blue, abs=0.003)


def test_the_saved_config_asks_the_same_rewards(run: RunDirectory, tmp_path: Path) -> None:
    assert main(["predict", "--config", str(run.config), "--trainer.default_root_dir", str(tmp_path)]) == 0
    assert RunDirectory(tmp_path).samples.read_bytes() == run.samples.read_bytes()


@pytest.mark.parametrize(
    ("class_path", "arguments", "message"),
    [
        ("FunctionReward", {"function": "nowhere.score"}, "'nowhere.score', and importing it failed"),
        ("FunctionReward", {"function": "math.pi"}, "math.pi is a float"),
        ("MetricReward", {"metric": {"class_path": "torchmetrics.MeanMetric"}}, "MeanMetric doesn't say whether"),
        ("JPEGSize", {"target": -1}, "target is -1.0"),
    ],
)
def test_misuse_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], class_path: str, arguments: dict, message: str
) -> None:
    wrong = {"class_path": f"rewards.{class_path}", "init_args": arguments}
    rewards = {"wrong": wrong, "right": {"class_path": "rewards.Contrast"}}
    assert main(["-q", "predict", "--config", config(tmp_path, rewards)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
