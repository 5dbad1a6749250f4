"""LoRAs that a run samples with: their training costs are copied when it starts, and stay those of the LoRA used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from srsoup_lightning.callbacks import RunSummary, SampleWriter
from srsoup_lightning.cli.main import main
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.report.compare import compared
from srsoup_lightning.runs.adapter import FACTS, AdapterFacts, read_facts, write_adapter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.reading import read_run
from tests.callbacks.test_callbacks import predict
from tests.cli.test_fit import write_fit
from tests.conftest import Channel, make_module
from tests.diffusion.pipelines import make

SPENT = Ledger(queries={"red": 900, "blue": 100}, nfe=5000, gradients=400, seconds=12.5, device="cuda")
TRAINED = AdapterFacts(base="another", objective="DRaFT", preference={"red": 1.0, "blue": 0.0}, rounds=7, costs=SPENT)

WEIGHTS = {"unet.weight": torch.zeros(1)}


def sample(root: Path, loras: dict[str, float], **writer: bool) -> None:
    module = make_module({"red": Channel(0), "blue": Channel(2)})
    module.loras = loras
    predict(module, root, [SampleWriter(**writer), RunSummary()], ["a cat"])


def test_a_run_keeps_the_costs_of_the_lora_that_it_was_made_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run, folder = RunDirectory(tmp_path / "run"), tmp_path / "adapter"
    write_adapter(folder, WEIGHTS, {}, TRAINED)
    ours, theirs = str(folder / "pytorch_lora_weights.safetensors"), "someone/style"
    sample(run.root, {ours: 1.0, theirs: 0.5})
    assert f"LoRA {ours!r} was trained on 'another', and this run samples with 'MixtureBackbone'" in caplog.text
    shown = capsys.readouterr().out
    told = "900 queries of red, 100 queries of blue, 5,000 network evaluations, 400 gradient evaluations"
    assert f"training     of {ours}, 7 rounds of DRaFT: {told}, 0 decodes, 12.5 s on cuda" in shown
    assert f"training     of {theirs}: unknown costs" in shown
    write_adapter(folder, WEIGHTS, {}, replace(TRAINED, costs=Ledger(nfe=1)))
    used = read_run(run.root)
    assert [(each.source, each.weight, each.facts) for each in used.adapters] == [
        (ours, 1.0, TRAINED),
        (theirs, 0.5, None),
    ]
    assert used.training is None
    both = {ours: 1.0, theirs: 0.5}
    for loras, told in (
        (both, f"with the LoRA {ours!r}, which was trained otherwise then"),
        (both | {ours: 0.5}, f"with the LoRA {ours!r} at weight 1.0, and its weight is 0.5 now"),
        ({theirs: 0.5}, f"with the LoRA {ours!r}, which is not used now"),
        ({}, f"with the LoRA {ours!r}, which is not used now"),
    ):
        with pytest.raises(FileExistsError, match=f"{told}: give another"):
            sample(run.root, loras)
    shutil.rmtree(folder)
    with pytest.raises(FileExistsError, match=f"{ours!r}, whose folder no longer tells its training, or is missing"):
        sample(run.root, both)
    write_adapter(folder, WEIGHTS, {}, TRAINED)
    with pytest.raises(FileExistsError, match="without the LoRA 'a', which is used now"):
        sample(run.root, both | {"a": 1.0})
    sample(run.root, {ours: 1.0, theirs: 0.5})  # continued
    (run.root / "adapters.json").write_text("[{}]")
    with pytest.raises(ValueError, match=r"adapters.json is damaged \('source'\): restore it, or make the run anew"):
        read_run(run.root)
    sample(run.root, {ours: 1.0}, overwrite=True)
    assert read_run(run.root).training == SPENT
    for table in (run.samples, run.ledger):  # nothing was finished, and the next command takes no LoRA
        table.unlink()
    sample(run.root, {})
    assert not run.adapters.exists()
    run.adapters.touch()
    run.clear()
    assert not run.adapters.exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"costs": {"nfe": "many"}},
        {"costs": {"seconds": float("nan")}},
        {"costs": []},
        {"rounds": 1e999},
        {"preference": 1},
    ],
)
def test_damaged_facts_are_refused_before_anything_is_sampled(tmp_path: Path, changed: dict) -> None:
    write_adapter(tmp_path, WEIGHTS, {}, TRAINED)
    (tmp_path / FACTS).write_text(json.dumps(json.loads((tmp_path / FACTS).read_text()) | changed))
    with pytest.raises(ValueError, match=r"adapter.json is damaged .*: delete it, and the costs"):
        sample(tmp_path / "run", {str(tmp_path): 1.0})
    assert not list(RunDirectory(tmp_path / "run").cost_rows())


def test_a_fit_and_a_prediction_with_its_lora_are_compared(tmp_path: Path) -> None:
    make("SD").save_pretrained(tmp_path / "tiny")
    config, adapter = write_fit(tmp_path, str(tmp_path / "tiny")), tmp_path / "run" / "adapter"
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1"]) == 0
    settings = yaml.safe_load(config.read_text())
    del settings["model"]["training"], settings["data"]["validation_prompts"]
    config.write_text(yaml.safe_dump(settings))
    for name, options in {"soup": [], "tuned": ["--model.loading.loras", json.dumps({str(adapter): 1.0})]}.items():
        command = ["predict", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / name), *options]
        assert main(command) == 0
    rows = compared([str(tmp_path / "soup"), str(tmp_path / "tuned")]).rows()
    found = {(row["run"], row["measure"]): row["mean"] for row in rows}
    costs = read_facts(adapter).costs
    assert found["tuned", "training_queries"] == costs.total_queries > 0
    assert found["tuned", "training_nfe"] == costs.nfe > 0
    assert found["soup", "training_nfe"] == 0
    assert found["tuned", "nfe"] == found["soup", "nfe"] > 0
