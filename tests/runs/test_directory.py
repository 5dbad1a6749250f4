from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.naming import prompt_slug, require_distinct_folders
from srsoup_lightning.samplers import Soup
from tests.report.runs import read_rows


def make_soup(prompt: str = "a cat", seed: int = 0) -> Soup:
    return Soup(
        prompt=prompt,
        seed=seed,
        reward_names=("jpeg", "clip"),
        preference_names=("jpeg1-clip0", "even"),
        preferences=torch.tensor([[1.0, 0.0], [0.5, 0.5]]),
        images=torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)),
        rewards=torch.tensor([[-1.5, 20.0], [-2.0, 30.0]]),
        failed=torch.zeros(2, 2, dtype=torch.bool),
        ledger=Ledger(queries={"jpeg": 7, "clip": 3}, hits={"clip": 2}, nfe=11, decodes=5, seconds=1.5),
    )


def test_rows_and_pictures_say_what_the_soup_said(tmp_path: Path) -> None:
    run, soup = RunDirectory(tmp_path / "run"), make_soup()
    run.write(soup)
    rows = [row.to_json() for row in run.image_rows()]
    for row in rows:
        assert row.pop("sha256") == hashlib.sha256((run.root / row["image"]).read_bytes()).hexdigest()
    assert rows[1] == {
        "prompt": "a cat",
        "seed": 0,
        "preference": {"jpeg": 0.5, "clip": 0.5},
        "rewards": {"jpeg": -2.0, "clip": 30.0},
        "image": f"samples/{prompt_slug('a cat')}/0/even.png",
    }
    with Image.open(run.root / rows[0]["image"]) as picture:
        pixels = torch.tensor(list(picture.getdata())).reshape(8, 8, 3).permute(2, 0, 1)
    assert (pixels / 255 - soup.images[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert [row.to_json() for row in run.cost_rows()] == [
        {
            "prompt": "a cat", "seed": 0, "images": 2, "queries": {"jpeg": 7, "clip": 3}, "hits": {"clip": 2},
            "failures": {}, "nfe": 11, "gradients": 0, "decodes": 5, "seconds": 1.5, "device": "cpu",
        }
    ]  # fmt: skip


def test_soups_are_added_a_line_each_and_a_row_names_the_rewards_that_gave_no_score(tmp_path: Path) -> None:
    run, soups = RunDirectory(tmp_path), [make_soup(seed=seed) for seed in range(3)]
    soups[0].failed[1, 0] = True
    for soup in soups:
        run.write(soup)
    assert [row["seed"] for row in read_rows(run.ledger)] == [0, 1, 2]
    assert [row.get("failed") for row in read_rows(run.samples)] == [None, ["jpeg"], *[None] * 4]


@settings(max_examples=50)
@given(st.text(max_size=500))
def test_every_prompt_has_a_folder_of_its_own_name(prompt: str) -> None:
    slug = prompt_slug(prompt)
    assert len(slug) <= 73
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug.startswith("-")
    assert len({prompt_slug(prompt + "x" * 500 + end) for end in "abc"}) == 3


def test_folders_of_prompts_are_told_apart_by_sixteen_bytes_and_a_collision_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, _, hexadecimal = prompt_slug("猫猫狮狐狗").partition("-")
    assert (words, len(bytes.fromhex(hexadecimal))) == ("prompt", 16)
    collided = ["猫猫狮狐狗", "猫羊蛇鱼狗"]  # a hash of four bytes is the same
    require_distinct_folders(["a cat", "a cat", *collided])
    monkeypatch.setattr(
        "srsoup_lightning.runs.naming.prompt_slug",
        lambda prompt: hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest(),
    )
    with pytest.raises(ValueError, match="猫猫狮狐狗' and '猫羊蛇鱼狗' share the folder 2a639c8e"):
        require_distinct_folders(collided)


@pytest.mark.parametrize("prompt", ["../../x", "/etc/passwd", "a\\..\\b", "😀", "", "a/b\n{}"])
def test_hostile_prompts_stay_inside_and_clearing_removes_only_what_runs_make(tmp_path: Path, prompt: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write(make_soup(prompt))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert len(list((tmp_path / "run" / "samples").glob("*/0/*.png"))) == 2
    assert next(run.image_rows()).prompt == prompt
    (run.root / "notes.txt").write_text("mine")
    run.clear()
    assert [path.name for path in run.root.iterdir()] == ["notes.txt"]
    assert list(run.image_rows()) == []
