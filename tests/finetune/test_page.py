"""docs/fine-tuning.md: its table of costs is that of the objectives, its commands have their options, its code runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from srsoup_lightning import Preferences, finetune
from srsoup_lightning.cli.main import main
from srsoup_lightning.finetune import AWM, NFT, DenseDPO, DiffusionDPO, DRaFT, Matching, PairTable, PolicyGradient
from srsoup_lightning.finetune.rehearsal import rehearse_round

PAGE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text()
SIZE = {"G": 3, "S": 4, "T": 10, "E": 2, "M": 2}
PROCESS = {"groups": 3, "group_size": 4, "num_inference_steps": 10, "guidance_scale": 5.0}
ROWS = {  # objective of each row of the table of costs, and the other numbers of its formulas
    "`PolicyGradient`": (PolicyGradient(**PROCESS), {"K": 10}),
    "`PolicyGradient` with `kl`": (PolicyGradient(**PROCESS, kl=0.1), {"K": 10}),
    "`Matching` with `NFT`": (Matching(**PROCESS, method=NFT(), share=0.5), {"K": 5}),
    "`Matching` with `AWM`": (Matching(**PROCESS, method=AWM(), share=0.5), {"K": 5}),
    "`DRaFT`": (DRaFT(**PROCESS, low_variance=2), {"K": 1, "n": 2}),
    "`DRaFT` with `kl`": (DRaFT(**PROCESS, last_steps=3, kl=0.1), {"K": 3, "n": 0}),
    "`DiffusionDPO` with `RankedSamples`": (DiffusionDPO(**PROCESS, draws=7), {"P": 1, "D": 7}),
    "`DiffusionDPO` with pairs on disk": (DiffusionDPO(**PROCESS, draws=7, pairs=PairTable("pairs.jsonl")), {"D": 7}),
    "`DenseDPO`": (DenseDPO(**PROCESS, draws=5, steps_per_logit=3), {"L": 3, "D": 5}),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def rows_of(title: str) -> dict[str, list[str]]:
    lines = PAGE.partition(f"### {title}\n")[2].partition("\n|---")[2].partition("\n\n")[0].splitlines()[1:]
    return {
        name: cells for name, *cells in ([cell.strip(" ") for cell in line.strip("|").split("|")] for line in lines)
    }


def test_costs_are_those_of_a_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("good.png", "bad.png"):
        Image.new("RGB", (8, 8)).save(name)
    Path("pairs.jsonl").write_text(json.dumps({"prompt": "a cat", "winner": "good.png", "loser": "bad.png"}) + "\n")
    table, preferences = rows_of("What a round costs"), Preferences(["a", "b"], [[0.5, 0.5]])
    assert table.keys() == ROWS.keys()
    for name, (objective, numbers) in ROWS.items():
        ledger, _ = rehearse_round(finetune.Training(objective=objective), preferences, round_=1)
        told = [eval(cell.strip("`").replace("·", "*"), {**SIZE, **numbers}) for cell in table[name]]
        assert told == [ledger.total_queries, ledger.nfe, ledger.gradients, ledger.decodes], name


def commands() -> Iterator[list[str]]:
    for line in "".join(blocks("bash")).replace("\\\n", "").splitlines():
        program, command, *options = shlex.split(line)
        if program == "srsoup" and command in ("fit", "plan", "predict"):
            yield [command, *options]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_commands_have_their_options(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (Path("mine.yaml")).write_text(*blocks("yaml"))
    assert main([*command, "--print_config"]) == 0
    assert "pipeline: tiny-animals" in capsys.readouterr().out


def test_the_python_fits_and_leaves_the_files_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    small = {'steps": 10': 'steps": 2', "groups=6": "groups=1", "max_epochs=25": "max_epochs=1", "epoch=5": "epoch=1"}
    for told, tried in small.items():
        assert told in code
        code = code.replace(told, tried)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["module"].finetuning.costs.queries == {"clip": 2 * (1 + 2), "color": 0}
    told = set(re.findall(r"^runs/animals_draft/([\w.]+)", PAGE, re.MULTILINE))
    assert {path.name for path in Path("runs/python").glob("[!.]*")} == told - {"config.yaml"}
