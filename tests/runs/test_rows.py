"""Rows of a run, and differences between configs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.runs.changes import changes
from srsoup_lightning.runs.identity import described, operational_options
from srsoup_lightning.runs.rows import CostRow, ImageRow, total

IMAGE = {"prompt": "a cat", "seed": 3, "preference": {"jpeg": 1.0}, "rewards": {"jpeg": -2.5}, "image": "a.png"}
COST = {
    "prompt": "a cat", "seed": 3, "images": 2, "queries": {"jpeg": 7}, "hits": {}, "failures": {"jpeg": 1}, "nfe": 11,
    "gradients": 4, "decodes": 5, "seconds": 1.5, "device": "cpu",
}  # fmt: skip
OLDER = {"prompt": "a cat", "seed": 4, "queries": {"jpeg": 3, "clip": 2}, "nfe": 1, "seconds": 1}


@pytest.mark.parametrize(
    "row", [IMAGE, IMAGE | {"failed": ["jpeg"]}, {k: IMAGE[k] for k in ("prompt", "rewards", "image")}]
)
def test_an_image_row_is_written_as_it_was_read(row: dict) -> None:
    assert json.dumps(ImageRow.from_json(row, "here").to_json()) == json.dumps(row)


def test_a_cost_row_is_written_as_it_was_read_and_older_rows_have_no_gradients() -> None:
    rows = [CostRow.from_json(row, "here") for row in (COST, OLDER)]
    assert json.dumps(rows[0].to_json()) == json.dumps(COST)
    assert (rows[1].images, rows[1].ledger) == (0, Ledger({"jpeg": 3, "clip": 2}, nfe=1, seconds=1))
    assert total(rows) == Ledger({"jpeg": 10, "clip": 2}, {}, {"jpeg": 1}, 12, 4, 5, 2.5)
    assert total([]) == Ledger()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "there, line 4 lacks 'seed': rows need prompt, seed"),
        (COST | {"nfe": "many"}, "there, line 4 has 'many' as nfe: give a whole number"),
        (COST | {"queries": {"jpeg": "7"}}, "there, line 4 has jpeg 7: give a finite number"),
        (COST | {"seconds": float("inf")}, "there, line 4 has seconds inf: give a finite number"),
    ],
)
def test_a_damaged_cost_row_is_named(row: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CostRow.from_json(row, "there, line 4")


@dataclass
class Options:
    candidates: int = 4
    max_batch: int = field(default=1, metadata={"operational": True})


class Judged:
    def __init__(self, model: str, pixels: int = 224) -> None:
        self.arguments = {"model": model, "pixels": pixels}


def test_an_option_that_an_old_run_did_not_have_counts_as_its_default() -> None:
    """So a run goes on after an upgrade that added an option, and a default that changed later is told."""
    old = {name: {"class": f"{__name__}.{name}"} for name in ("Options", "Judged")}
    old["Judged"]["model"] = "clip"
    new = described({"Options": Options(), "Judged": Judged("clip")})
    assert new["Judged"]["pixels"] == 224
    assert changes(old, new) == ""
    other = described({"Options": Options(5), "Judged": Judged("clip", 99)})
    assert changes(old, other) == "Options.candidates was 4, now 5, Judged.pixels was 224, now 99"
    assert (
        changes(new, described({"Options": Options(), "Judged": Judged("base")}))
        == "Judged.model was 'clip', now 'base'"
    )


def test_options_that_change_no_picture_are_no_change() -> None:
    assert operational_options(Options) == {"max_batch"}
    assert described(Options()) == described(Options(max_batch=8)) == {"class": f"{__name__}.Options", "candidates": 4}
    old = {"sampler": {"candidates": 4}, "limits": None, "oracle": {"failing": "raise"}}
    new = {"sampler": {"candidates": 4}, "limits": {"nfe": 5}, "oracle": {"failing": "worst"}}
    assert changes(old, old) == ""
    assert changes(old, new) == "limits was None, now {'nfe': 5}, oracle.failing was 'raise', now 'worst'"
    many = {"model": {name: 1 for name in "abcde"}}
    assert changes({}, many).startswith("model was None, now {'a': 1")
    assert changes({"model": dict.fromkeys("abcde")}, many).endswith("model.c was None, now 1 and 2 more")
