"""Help without heavy imports says what the parser accepts, and wrong names get the valid ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from srsoup_lightning.cli.commands import COMMANDS
from srsoup_lightning.cli.help import main_parser, options
from srsoup_lightning.cli.main import main
from tests.cli.test_main import write_config

ELSEWHERE = {"quiet", "verbose", "ckpt_path", "weights_only", "return_predictions", "seed_everything"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_of_the_parser_and_no_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ArgumentParser] = []

    def parse(self: ArgumentParser, *_: object) -> None:
        made.append(self)
        raise SystemExit

    monkeypatch.setattr(ArgumentParser, "parse_args", parse)
    with suppress(SystemExit):
        main([name])
    (parser,) = made
    if COMMANDS[name].trainer:
        parser = parser._subcommands_action._name_parser_map[name]
    accepted = {string for action in parser._actions for string in action.option_strings if string.startswith("--")}
    names = {string[2:] for string in accepted if not string.endswith(("+", ".help"))}
    names -= {name.rpartition(".")[0] for name in names} | ELSEWHERE
    shown = {name for name in options(name) if not name.startswith("trainer.")} - ELSEWHERE
    assert shown == {name for name in names if not name.startswith(("trainer.", "optimizer", "lr_scheduler"))}


def test_the_first_help_is_one_screen_with_every_command_and_examples() -> None:
    shown = main_parser().format_help()
    assert len(shown.splitlines()) <= 40
    assert all(f"{name} {command.help}" in " ".join(shown.split()) for name, command in COMMANDS.items())
    assert shown.count("\n  srsoup ") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model.samplerr", "x"], "no option 'model.samplerr': did you mean model.sampler? choose one of model.pipe"),
        (["--trainer.acelerator", "cpu"], "did you mean trainer.accelerator?"),
        (["--model.sampler", "SRSuop"], "model.sampler: no class 'SRSuop': did you mean SRSoup? choose one of"),
        (["--model.sampler.candidatess", "3"], "SRSoup has no argument 'candidatess': did you mean candidates?"),
        (
            ["--model.sampler.sharing", "FixdSoup"],
            "model.sampler.sharing: no class 'FixdSoup': did you mean FixedSoup?",
        ),
        (
            ["--model.rewards.red.class_path", "rewards.Brigtness"],
            "rewards has no 'Brigtness': did you mean Brightness?",
        ),
        (["--trainer.logger", "TensorBordLogger"], "did you mean TensorBoardLogger?"),
        (["--config", "animal"], "no config 'animal', neither a file nor builtin: did you mean animals? choose one of"),
    ],
)
def test_a_misspelt_name_gets_the_valid_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert main(["-q", "predict", "--config", str(write_config(tmp_path)), *given]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_an_option_of_other_commands_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "fit", "--config", "animals"]) == 2
    assert "no option 'summary.box.jpeg' of fit, but of predict and of plan: choose" in capsys.readouterr().err


def test_a_command_without_a_config_names_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "predict", "--data.seeds", "[1]"]) == 2
    assert "data.prompts; give a config that has them, such as --config animals" in capsys.readouterr().err


def test_a_shell_completes_commands_options_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["--completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(name.replace("-", "_") in script for name in COMMANDS)
    assert "--model.loading.compile" in script
    assert main(["--completion", "bsh"]) == 2
    assert "did you mean bash?" in capsys.readouterr().err
