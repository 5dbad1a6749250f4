"""An option that a later config would take the place of is refused."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path

import pytest
import yaml

from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.order import refuse_overruled

PROMPTS, OWN = ["--data.prompts", "[a snail]"], ["--model.sampler.candidates=3"]


@pytest.mark.parametrize("config", ["animals", "path"])
@pytest.mark.parametrize("option", [PROMPTS, OWN, ["--model.sampler", "Fast"], ["--data.prompts+", "a snail"]])
def test_an_option_before_a_config_that_sets_it_is_refused(config: str, option: list[str], tmp_path: Path) -> None:
    """A config nests its keys as it likes: options leave out init_args, and the command may enclose all."""
    sampler = {"class_path": "SRSoup", "init_args": {"candidates": 10}}
    content = {"predict": {"data": {"prompts": ["a whale"]}, "model": {"sampler": sampler}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    given = ["--config", config if config == "animals" else str(tmp_path / "own.yaml")]
    with pytest.raises(ArgumentError, match=f"^--(data.prompts|model.sampler.*) stands before --config {given[1]}"):
        refuse_overruled("predict", ["predict", *option, *given])
    refuse_overruled("predict", ["predict", *given, *option])


def test_configs_replace_one_another_and_options_that_none_sets_may_stand_first(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model: {sampler: {init_args: {candidates: 4}}}")
    refuse_overruled("predict", ["predict", *PROMPTS, "--config", str(tmp_path / "own.yaml")])
    refuse_overruled("predict", ["predict", "-c", "animals", f"--config={tmp_path / 'own.yaml'}", *PROMPTS])


def test_the_command_line_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["predict", *root, "--config", "animals_fast"]) == 2
    shown = capsys.readouterr().err
    assert "--trainer.default_root_dir stands before --config animals_fast, which sets it too: put it after" in shown
    assert not list(tmp_path.iterdir())
