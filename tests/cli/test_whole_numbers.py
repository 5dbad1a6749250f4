"""1 batch is no share of 1.0, whatever module named the types first."""

from __future__ import annotations

import inspect
from typing import Union, get_args

import lightning as L
import pytest
import yaml

from srsoup_lightning.cli.main import main
from srsoup_lightning.cli.whole_numbers import keep_whole_numbers


@pytest.mark.parametrize("command", ["predict", "fit", "plan"])
def test_whole_numbers_of_the_trainer_stay_whole(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = inspect.unwrap(L.Trainer.__init__).__annotations__
    limits = [name for name, kind in annotations.items() if {int, float} <= {*get_args(kind)}]
    assert {"limit_predict_batches", "limit_val_batches", "val_check_interval"} <= {*limits}
    for name in limits:
        monkeypatch.setitem(annotations, name, Union[float, int, None])  # noqa: UP007
    whole = [word for name in limits for word in (f"--trainer.{name}", "1")]
    assert main([command, *whole, "--trainer.limit_val_batches", "0.5", "--print_config"]) == 0
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert trainer.pop("limit_val_batches") == 0.5
    assert {type(trainer[name]) for name in limits if name != "limit_val_batches"} == {int}


def test_a_union_keeps_its_members() -> None:
    def function(share: Union[float, int, str], other: Union[float, str]) -> None: ...  # noqa: UP007

    function.__annotations__ = {"share": Union[float, int, str], "other": Union[float, str]}  # noqa: UP007
    keep_whole_numbers(function)
    assert get_args(function.__annotations__["share"]) == (int, float, str)
    assert get_args(function.__annotations__["other"]) == (float, str)
