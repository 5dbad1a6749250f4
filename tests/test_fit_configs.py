"""Every config of a fit trains for a round, with tiny models in place of those that it names."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.adapter import read_facts
from srsoup_lightning.runs.directory import RunDirectory
from tests.config_twins import FITS, save, settings_of, twin_of

STEPS = 2
FEW = {"num_inference_steps": STEPS, "groups": 2, "group_size": 2}
SHORT = {"length": STEPS - 1, "last": STEPS - 1}  # a window of the first steps
PUBLISHED = {"sd15_ddpo": (256, 4), "sd15_draft": (128, 1), "sdxl_dpo": (2048, 1)}  # samples and updates in a round
PUBLISHED |= {"sd15_parrot": (256, 4), "sd15_in_context": (64, 1)}
PUBLISHED |= {"sd35_flow_grpo": (48 * 24, 2), "sd35_nft": (48 * 24, 1), "sd35_conditioned": (144 * 8, 1)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of pairs of tiny pictures."""
    folder = tmp_path_factory.mktemp("pairs")
    for shade in (0, 90, 180):
        Image.new("RGB", (16, 16), (shade, 60, 60)).save(folder / f"{shade}.png")
    rows = [{"prompt": prompt, "winner": "180.png", "loser": loser} for prompt in "ab" for loser in ("0.png", "90.png")]
    names = ("jpeg", "clip", "aesthetic")
    scores = [
        {"prompt": "a", "image": f"{shade}.png", "rewards": dict(zip(names, (shade, -shade, shade // 2), strict=True))}
        for shade in (0, 90)
    ]
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "pairs.jsonl")


def on_disk(settings: dict, pairs: str) -> dict:
    """Settings with the table of tiny pictures in place of one that they name."""
    source = settings["model"]["training"]["objective"]["init_args"].get("pairs", {}).get("init_args", {})
    if "table" in source:
        source["table"] = pairs
    if "runs" in (objective := settings["model"]["training"]["objective"]["init_args"]):
        objective["runs"] = [str(Path(pairs).parent / "scores.jsonl")]
    return settings


def small(name: str, twins: dict[str, str], pairs: str) -> dict:
    """Settings of a round that takes a second, with every part that the config has."""
    settings = on_disk(twin_of(name, twins), pairs)
    objective = settings["model"]["training"]["objective"]["init_args"]
    objective |= FEW
    if "steps" in objective:
        objective["steps"]["init_args"] = SHORT
    if "compared" in objective:
        objective["compared"] = FEW["group_size"]
    settings["model"]["sampler"]["init_args"]["num_inference_steps"] = STEPS
    settings["data"] |= {"validation_prompts": ["a whale"], "validation_seeds": [0]}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    settings["trainer"] |= quiet | {"max_epochs": 1, "check_val_every_n_epoch": 1}
    return settings


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [name if name.startswith("animals") else pytest.param(name, marks=pytest.mark.slow) for name in FITS]
)
def test_a_config_of_a_fit_trains_and_validates(name: str, twins: dict[str, str], pairs: str, tmp_path: Path) -> None:
    config, run = str(save(small(name, twins, pairs), tmp_path)), RunDirectory(tmp_path / "run")
    assert main(["fit", "--config", config, "--trainer.default_root_dir", str(run.root)]) == 0
    facts = read_facts(run.adapter)
    assert facts is not None
    assert (facts.rounds, facts.costs.gradients > 0) == (1, True)
    weights = load_file(run.adapter / "pytorch_lora_weights.safetensors")
    assert any(weight.any() for key, weight in weights.items() if "lora_B" in key)  # 0 before the first update
    assert all(weight.isfinite().all() for weight in weights.values())
    (row,) = map(json.loads, run.validation.read_text().splitlines())
    assert row["rewards"].keys() == settings_of(name)["model"]["rewards"].keys()
    assert all(math.isfinite(score) for score in row["rewards"].values())


@pytest.mark.parametrize("name", ["animals_draft", "sd35_flow_grpo"])
def test_predict_refuses_a_config_of_a_fit(
    name: str, twins: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(save(twin_of(name, twins), tmp_path))
    assert main(["predict", "--config", config, "--trainer.default_root_dir", str(tmp_path / "run")]) == 2
    assert "predict trains nothing: run srsoup fit" in capsys.readouterr().err


@pytest.mark.parametrize("name", FITS)
def test_a_config_of_a_fit_is_planned_without_its_models(
    name: str, pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = on_disk(settings_of(name), pairs)
    objective, rounds = settings["model"]["training"]["objective"]["init_args"], settings["trainer"]["max_epochs"]
    objective["groups"] = 2
    asks = "table" not in objective.get("pairs", {}).get("init_args", {}) and "runs" not in objective
    queries = asks * 2 * objective["group_size"] * (1 + objective.get("low_variance", 0))
    if "searches" in objective:  # of each reward: the candidates of its corner and of all preferences between
        candidates = objective["searches"]["init_args"]["search"]["init_args"]["candidates"]
        queries = 2 * (objective["group_size"] - 1) * objective["num_inference_steps"] * candidates
    assert main(["plan", "--config", str(save(settings, tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert f"{rounds} rounds" in shown
    points = settings["model"]["preferences"]["init_args"]
    weighted = [any(weights) for weights in zip(*points["weights"], strict=True)]
    for reward, asked in zip(points["rewards"], (queries * each for each in weighted), strict=True):
        (line,) = [line for line in shown.splitlines() if f"queries of {reward} " in line]
        assert [cell.strip() for cell in line.split("│")[2:4]] == [f"{asked:,}", f"{asked * rounds:,}"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_fit_has_the_authors_scale(name: str) -> None:
    training = settings_of(name)["model"]["training"]
    objective = training["objective"]["init_args"]
    assert (objective["groups"] * objective["group_size"], training["updates"]) == PUBLISHED[name]
