"""A run goes on as the same run alone, whatever the way in, and a directory tells which run made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning import Loading, OraclePolicy, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.diffusion.loading.fingerprint import BLOCK, BLOCKS, fingerprint, loaded_model
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import read_rows
from srsoup_lightning.runs.identity import RunIdentity, described, read_identity
from tests.callbacks.test_callbacks import contents
from tests.conftest import Broken, Channel, make_module, quiet_trainer

REWARDS = {"red": Channel(0), "blue": Channel(2)}


def run(root: Path, module: SRSoupModule | None = None, seeds: int = 1, **options: object) -> None:
    trainer = quiet_trainer(default_root_dir=root, callbacks=[SampleWriter()], **options)
    trainer.predict(module or make_module(REWARDS), PromptDataModule(["a cat"], list(range(seeds))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("identity") / "run"
    run(root)
    return root


def with_sampler(**options: object) -> SRSoupModule:
    module = make_module(REWARDS)
    module.sampler = replace(module.sampler, **options)
    return module


def with_preferences() -> SRSoupModule:
    module = make_module(REWARDS)
    points = module.preferences
    module.preferences = Preferences(
        points.rewards, dict(zip(points.names, points.weights.flip(0).tolist(), strict=True))
    )
    return module


OTHERS: dict[str, tuple[Callable[[], SRSoupModule], dict[str, object]]] = {
    "precision was '32-true', now 'bf16-mixed'": (partial(make_module, REWARDS), {"precision": "bf16-mixed"}),
    "negative_prompt was '', now 'ugly'": (partial(make_module, REWARDS, negative_prompt="ugly"), {}),
    "rewards.red.channel was 0, now 1": (partial(make_module, REWARDS | {"red": Channel(1)}), {}),
    "rewards.blue.class was 'tests.conftest.Channel', now 'tests.conftest.Broken'": (
        partial(make_module, REWARDS | {"blue": Broken()}),
        {},
    ),
    "sampler.candidates was 4, now 5": (partial(with_sampler, candidates=5), {}),
    "oracle.failing was 'raise', now 'worst'": (partial(make_module, REWARDS, oracle=OraclePolicy("worst")), {}),
    r"preferences.red1-blue0.red was 1.0, now 0.0": (with_preferences, {}),
}


@pytest.mark.parametrize("changed", OTHERS)
def test_another_run_is_refused_and_changes_nothing(made: Path, changed: str) -> None:
    make, options = OTHERS[changed]
    before = contents(made)
    with pytest.raises(FileExistsError) as refused:
        run(made, make(), 2, **options)
    assert f"holds another run ({changed}" in str(refused.value)
    assert contents(made) == before


def test_operational_options_and_a_copied_directory_do_not_make_another_run(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    run(copy, with_sampler(max_batch=3), 2)
    identities = {row["run"] for table in ("samples", "ledger") for _, row in read_rows(copy / f"{table}.jsonl")}
    assert identities == {json.loads((copy / "run.json").read_text())["id"]}


def test_results_without_their_identity_or_of_another_run_are_refused(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    rows = (copy / "ledger.jsonl").read_text()
    identity = read_identity(copy / "run.json").id
    (copy / "ledger.jsonl").write_text(rows.replace(identity, "f" * 32))
    with pytest.raises(FileExistsError, match=f"holds rows of another run, {'f' * 32} for prompt 'a cat'"):
        run(copy)
    (copy / "run.json").unlink()
    with pytest.raises(FileExistsError, match=r"holds results without run\.json, so nothing tells which run made them"):
        run(copy)


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"facts": {}}', '{"id": "0", "facts": {}, "parts": [], "max_batch": 1}']
)
def test_a_damaged_identity_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "run.json").write_text(damage)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        read_identity(tmp_path / "run.json")


def test_a_run_goes_on_with_its_number_of_threads_and_tells_other_circumstances(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy, threads = shutil.copytree(made, tmp_path / "copy"), torch.get_num_threads()
    before = read_identity(copy / "run.json")
    part = {**before.parts[0], "threads": threads + 1, "torch": "1.0"}
    replace(before, parts=(part,)).write(copy / "run.json")
    try:
        run(copy, seeds=2)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert (
        f"goes on, and last bits of its pictures may differ: torch was '1.0', now '{torch.__version__}'" in caplog.text
    )
    after = read_identity(copy / "run.json")
    assert (after.id, after.parts) == (before.id, (part, part | {"torch": before.parts[0]["torch"]}))


def test_a_changed_picture_is_made_again_and_no_other_takes_its_place(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made, tmp_path / "copy")
    first, second, *_ = (copy / row.image for row in RunDirectory(copy).image_rows())
    expected = first.read_bytes()
    first.write_bytes(second.read_bytes())  # a complete PNG of another preference
    run(copy)
    assert first.read_bytes() == expected
    flipped = bytearray(expected)
    flipped[len(flipped) // 2] ^= 1
    first.write_bytes(bytes(flipped))
    run(copy)
    assert first.read_bytes() == expected
    first.unlink()
    run(copy)
    assert first.read_bytes() == expected


@pytest.mark.parametrize("size", [0, 1, BLOCK * BLOCKS, BLOCK * BLOCKS + 1, 3 * BLOCK * BLOCKS])
def test_a_fingerprint_tells_names_sizes_and_trained_weights_apart(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    file = folder / "a.safetensors"
    content = torch.randint(256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    file.write_bytes(content.tobytes())
    known = [fingerprint(folder)]
    (folder / "README.md").write_text("not loaded")
    assert fingerprint(folder) == known[0]
    for change in (content + 1, content[:-1]):
        file.write_bytes(change.tobytes())
        known.append(fingerprint(folder))
    file.rename(folder / "b.safetensors")
    known.append(fingerprint(folder))
    assert len(set(known)) == len(known) - (size == 0) * 2


def test_the_facts_of_a_model_are_its_files_and_options_and_not_their_place(tmp_path: Path) -> None:
    from srsoup_lightning.builtin import PIPELINES

    copy = str(shutil.copytree(PIPELINES.find("tiny-animals"), tmp_path / "copy"))
    facts = partial(lambda *given: described(loaded_model(*given)))
    assert facts(copy, Loading()) == facts("tiny-animals", Loading(offload="model"))
    others = [Loading(dtype="bfloat16"), Loading(vae=copy), Loading(loras={copy: 1.0}), Loading(loras={copy: 0.5})]
    assert len({json.dumps(facts(copy, loading)) for loading in [Loading(), *others]}) == 5
    with pytest.raises(FileNotFoundError, match="no pipeline 'nowhere'"):
        loaded_model("nowhere", Loading())


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_a_description_is_json_and_describes_itself(value: object) -> None:
    assert described(described(value)) == json.loads(json.dumps(described(value)))


def test_functions_classes_tensors_and_arguments_are_described_by_what_they_are() -> None:
    tuned = partial(torch.optim.AdamW, lr=0.1)
    assert described(tuned) == {"call": "torch.optim.adamw.AdamW", "given": [], "lr": 0.1}
    assert described({"b", "a"}) == ["a", "b"]
    assert described(Path("x")) == "x"
    assert described(object()) == {"class": "builtins.object"}
    assert described(torch.ones(2)) != described(torch.zeros(2))
    assert RunIdentity(facts={"a": 1, "b": 2}).id == RunIdentity(facts={"b": 2, "a": 1}).id
