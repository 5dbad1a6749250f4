"""``srsoup fit`` from the command line: its files, going on, and what it says where it can't."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml

from srsoup_lightning.cli.main import main
from srsoup_lightning.runs.adapter import read_facts
from tests.cli.test_main import component
from tests.diffusion.pipelines import make

PROCESS = {"num_inference_steps": 3, "guidance_scale": 2.0}
SMALL = PROCESS | {"groups": 1, "group_size": 2}
REWARDS = {name: component("tests.conftest.Channel", channel=channel) for name, channel in (("red", 0), ("blue", 2))}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    make("SD").save_pretrained(folder)
    return str(folder)


def write_fit(folder: Path, pipeline: str, objective: str = "PolicyGradient", **model: object) -> Path:
    """A config of a fit of two rounds in a folder, with its run directory beside it."""
    path, tuned = folder / "fit.yaml", component(f"srsoup_lightning.finetune.{objective}", **SMALL)
    settings = {
        "pipeline": pipeline,
        "rewards": REWARDS,
        "sampler": component("srsoup_lightning.samplers.BaseModel", **PROCESS),
        "preferences": component("srsoup_lightning.Preferences", rewards=["red", "blue"], weights=[[1.0, 0.0]]),
        "training": {"objective": tuned, "lora": {"rank": 2}, "optimizer": component("torch.optim.SGD", lr=1.0)},
    }
    trainer = {"accelerator": "cpu", "default_root_dir": str(folder / "run"), "max_epochs": 2}
    data = {"prompts": ["a cat", "a dog"], "validation_prompts": ["photo"]}
    quiet = {"enable_progress_bar": False}
    path.write_text(yaml.safe_dump({"model": settings | model, "data": data, "trainer": trainer | quiet}))
    return path


def fit(config: Path, *options: str) -> int:
    return main(["fit", "--config", str(config), *options])


def test_a_fit_leaves_its_files_goes_on_and_refuses_another_config(
    tmp_path: Path, pipeline: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = write_fit(tmp_path, pipeline), tmp_path / "run"
    assert fit(config) == 0
    names = {"adapter", "checkpoints", "config.yaml", "run.json", "tensorboard", "validation.jsonl"}
    assert {path.name for path in run.glob("[!.]*")} == names
    first = (run / "adapter" / "pytorch_lora_weights.safetensors").read_bytes()
    assert fit(config) == 0  # all rounds are done
    assert (run / "adapter" / "pytorch_lora_weights.safetensors").read_bytes() == first
    assert fit(config, "--model.training.objective.init_args.clip", "0.5") == 2
    assert "holds another run (training.objective.clip was" in capsys.readouterr().err
    assert fit(config, "--trainer.max_epochs", "3") == 0
    assert read_facts(run / "adapter").rounds == 3

    def interrupt(*_: object) -> torch.Tensor:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tests.conftest.Channel.score", interrupt)
        assert fit(config, "--trainer.max_epochs", "4") == 130
        assert "interrupted: what was finished is kept, and the same command goes on" in capsys.readouterr().err
    assert fit(config, "--writer.overwrite", "true", "--trainer.max_epochs", "1") == 0
    assert read_facts(run / "adapter").rounds == 1


def test_a_bad_option_of_an_objective_is_one_short_line(
    tmp_path: Path, pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(write_fit(tmp_path, pipeline), "--model.training.objective.init_args.group_size", "1", "-q") == 2
    error = capsys.readouterr().err
    assert "group_size is 1: advantages compare the samples of a prompt, give at least 2" in error
    assert len(error) < 200


def test_a_limit_ends_a_fit_and_a_plan_knows_its_cost(
    tmp_path: Path, pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_fit(tmp_path, pipeline)
    with redirect_stdout(io.StringIO()) as shown:
        assert main(["plan", "--config", str(config), "--probe_models", "true"]) == 0
    words = shown.getvalue().split()
    evaluations = 2 * 2 * (3 + 3)  # samples, guidance, steps that are sampled and trained: the last one has noise too
    assert {"rounds", str(evaluations), str(2 * evaluations), "MiB"} <= set(words)
    assert fit(config, "--model.run_limits.max_nfe", str(evaluations)) == 3
    error = capsys.readouterr().err
    assert "run_limits.max_nfe" in error
    assert "the adapter of the last complete round is kept" in error
    assert read_facts(tmp_path / "run" / "adapter").rounds == 1


REFUSED = {
    "DRaFT": (fit, "DRaFT needs gradients from rewards to pixels, which 'red' can't give"),
    "PolicyGradient": (lambda config: main(["predict", "--config", str(config)]), "predict trains nothing"),
}


@pytest.mark.parametrize("objective", REFUSED)
def test_what_a_command_can_t_do_is_said_before_the_pipeline_is_loaded(
    tmp_path: Path,
    pipeline: str,
    objective: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading = "srsoup_lightning.diffusion.loading.source.load_backbone"
    monkeypatch.setattr(loading, lambda *_: pytest.fail("it is loaded first"))
    command, message = REFUSED[objective]
    assert command(write_fit(tmp_path, pipeline, objective)) == 2
    error = capsys.readouterr().err
    assert error.count("srsoup: error: ") == 1
    assert message in error
    assert "Error;" not in error
