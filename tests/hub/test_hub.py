"""Models by id: from a server that speaks the hub's protocol, through the client that users have."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch
import yaml

from tests.config_twins import save_twins, twin_of
from tests.diffusion.conftest import tiny_pipeline
from tests.diffusion.test_loras import save_lora
from tests.hub import client as do
from tests.hub.server import FOR_EVER, Hub, serving
from tests.rewards.test_formulas import HEAD

Answer = TypeVar("Answer")
pytestmark = pytest.mark.long
UNET, NOWHERE = "diffusion_pytorch_model.safetensors", "0" * 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models in the format of the real ones."""
    root = tmp_path_factory.mktemp("models")
    made = {name: Path(folder) for name, folder in save_twins(root).items()}
    (root / "heads").mkdir()
    torch.save(HEAD, root / "heads" / "head.pth")
    for name, seed in {"lora": 0, "other": 1}.items():
        save_lora(tiny_pipeline(), root / name, "unet", seed)
    return made | {name: root / name for name in ("heads", "lora", "other")}


@pytest.fixture(scope="module")
def hub(folders: dict[str, Path]) -> Iterator[Hub]:
    with serving() as server:
        for name in ("sd15", "vae", "clip", "heads", "lora"):
            server.add(f"user/{name}", folders[name])
        server.add("user/gated", folders["sd15"], gated=True)
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> Iterator[ProcessPoolExecutor]:
    with do.client(home, hub.url) as pool:
        yield pool


def checksum(folders: dict[str, Path]) -> str:
    return hashlib.sha256((folders["heads"] / "head.pth").read_bytes()).hexdigest()


def ask(pool: ProcessPoolExecutor, what: Callable[..., Answer], *arguments: object, **options: object) -> Answer:
    return pool.submit(what, *arguments, **options).result()


def test_models_by_id_are_those_of_the_folders(online: ProcessPoolExecutor, folders: dict[str, Path]) -> None:
    def vary(place: Callable[[str], str]) -> list[tuple]:
        parts = {"vae": place("vae"), "loras": {place("lora"): 0.5}}
        head = {"head": place("heads") + "/head.pth", "sha256": checksum(folders)}
        return [
            (do.pipeline, place("sd15"), {}),
            (do.pipeline, place("sd15"), parts),
            (do.clip, place("clip"), {}),
            (do.aesthetic, place("clip"), head),
        ]

    here, there = vary(lambda name: str(folders[name])), vary(lambda name: f"user/{name}")
    for (what, source, options), (_, name, remote) in zip(here, there, strict=True):
        expected = what(source, **options)
        assert ask(online, what, name, **remote) == expected
        assert expected.value
    wrong = ask(online, do.aesthetic, "user/clip", head="user/heads/head.pth", sha256="0" * 64)
    assert f"has SHA-256 {checksum(folders)}, not {'0' * 64}" in wrong.message


def test_a_revision_is_pinned(online: ProcessPoolExecutor, folders: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    """Of a pipeline, a LoRA and a reward's file. Later commits change nothing, and a run knows which it had."""
    old, pipe = hub.add("user/moving", folders["lora"]), hub.add("user/pipe", folders["sd15"])
    hub.add("user/moving", folders["other"])
    pinned = f"user/moving@{old}"
    values = {
        name: ask(online, do.pipeline, "user/pipe", revision=pipe, loras={name: 1.0}).value
        for name in (pinned, "user/moving", f"{pinned}/pytorch_lora_weights.safetensors")
    }
    local = [do.pipeline(str(folders["sd15"]), loras={str(folders[name]): 1.0}).value for name in ("lora", "other")]
    assert [*values.values()] == [local[0], local[1], local[0]]
    facts = ask(online, do.facts, "user/pipe", loras={pinned: 1.0})
    assert facts["weights"] == f"user/pipe@{pipe}"
    assert facts["loras"] == [{"weights": f"user/moving@{old}/", "weight": 1.0}]


def test_the_size_of_a_download_is_known_before_it(
    online: ProcessPoolExecutor, folders: dict[str, Path], hub: Hub
) -> None:
    hub.add("user/large", folders["sd15"])
    parts = {"vae": "user/vae", "loras": {"user/lora": 0.5}}
    local = do.sizes(str(folders["sd15"]), vae=str(folders["vae"]), loras={str(folders["lora"]): 0.5})
    ask(online, do.pipeline, "user/sd15", **parts)
    before, other = (
        ask(online, do.sizes, f"user/{name}", **options) for name, options in (("large", {}), ("sd15", parts))
    )
    assert other == local
    assert before.files >= before.missing > 1e6
    assert not hub.downloads("large|model.safetensors")
    ask(online, do.pipeline, "user/large")
    assert ask(online, do.sizes, "user/large") == before._replace(missing=0)


REFUSED = {
    "no id": ((do.pipeline, "user/none"), "pipeline 'user/none' can't be downloaded: the hub has no such id"),
    "no revision": (
        (do.pipeline, "user/sd15", {"revision": NOWHERE}),
        f"pipeline 'user/sd15' at revision '{NOWHERE}' can't be downloaded: the hub has no such revision",
    ),
    "gated": ((do.pipeline, "user/gated"), "'user/gated' can't be downloaded: accept its licence on its page"),
    "no pipeline": ((do.pipeline, "user/clip"), "'user/clip' can't be downloaded: the hub has no such file in it"),
    "no vae": ((do.pipeline, "user/sd15", {"vae": "user/none"}), "vae 'user/none' can't be downloaded: .* no such id"),
    "another vae": ((do.pipeline, "user/sd15", {"vae": "user/clip"}), "no vae|vae 'user/clip' is no AutoencoderKL"),
    "gated vae": ((do.pipeline, "user/sd15", {"vae": "user/gated"}), "vae 'user/gated' can't .* accept its licence"),
    "no LoRA": ((do.pipeline, "user/sd15", {"loras": {"user/none": 1.0}}), "LoRA 'user/none' can't .* no such id"),
    "no file": (
        (do.pipeline, "user/sd15", {"loras": {"user/lora/x.safetensors": 1.0}}),
        "LoRA 'user/lora/x.safetensors' can't be downloaded: the hub has no such file",
    ),
    "no reward": ((do.clip, "user/none"), "model 'user/none' can't be downloaded: the hub has no such id"),
    "gated reward": ((do.clip, "user/gated"), "model 'user/gated' can't be downloaded: accept its licence"),
    "no reward's revision": (
        (do.clip, "user/clip", {"revision": "v9"}),
        "'user/clip' at revision 'v9' can't .* no such",
    ),
    "no head": ((do.aesthetic, "user/clip", {"head": "user/heads/x.pth"}), "'user/heads/x.pth' can't .* no such file"),
    "gated head": ((do.aesthetic, "user/clip", {"head": "user/gated/x.pth"}), "'user/gated/x.pth' can't .* accept its"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line_that_says_what_to_do(online: ProcessPoolExecutor, case: str) -> None:
    (what, source, *options), message = REFUSED[case]
    found = ask(online, what, source, **(options[0] if options else {})).message
    assert re.search(rf"^\w+Error: .*({message})", found), found
    assert "\n" not in found


def test_a_gated_model_is_open_to_whoever_logs_in_and_the_token_stays_with_the_hub(
    online: ProcessPoolExecutor, hub: Hub, tmp_path: Path
) -> None:
    assert ask(online, do.command, "verify", str(tmp_path), HF_TOKEN="hf_secret")[0]
    assert ask(online, do.pipeline, "user/gated").value
    assert hub.tokens_elsewhere == 0


@pytest.mark.parametrize("lacking", ["tokenizer", "unet/diffusion_pytorch_model.safetensors"])
def test_a_pipeline_that_lacks_files_is_refused(
    lacking: str, online: ProcessPoolExecutor, hub: Hub, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Diffusers would load one without its tokenizer."""
    folder = Path(shutil.copytree(folders["sd15"], tmp_path / "less"))
    shutil.rmtree(folder / lacking) if (folder / lacking).is_dir() else (folder / lacking).unlink()
    hub.add(f"user/no-{lacking.split('/')[0]}", folder)
    found = ask(online, do.pipeline, f"user/no-{lacking.split('/')[0]}").message
    assert re.search(r"lacks (its folder tokenizer|\*\.safetensors)", found), found


def test_a_connection_that_breaks_is_taken_up_again(
    online: ProcessPoolExecutor, hub: Hub, folders: dict[str, Path]
) -> None:
    """Once by itself, from where it stopped; for ever by an error, after which the same command goes on."""
    expected = do.pipeline(str(folders["sd15"]))
    hub.add("user/shaky", folders["sd15"])
    hub.cut[UNET] = 1
    assert ask(online, do.pipeline, "user/shaky") == expected
    assert any(range_.startswith("bytes=") for range_ in hub.downloads(UNET))
    for name, what in {"sd15": do.pipeline, "clip": do.clip}.items():
        hub.add(f"user/broken-{name}", folders[name])
        hub.cut.update(dict.fromkeys((UNET, "model.safetensors"), FOR_EVER))
        found = ask(online, what, f"user/broken-{name}").message
        assert f"'user/broken-{name}' can't be downloaded: the connection to the hub failed" in found
        hub.cut.clear()
        assert ask(online, what, f"user/broken-{name}") == what(str(folders[name]))


def test_a_run_goes_on_without_the_hub_once_it_has_its_models(
    online: ProcessPoolExecutor, hub: Hub, home: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Its command downloads all that its config names; then it works with the hub gone, and says what is missing."""
    settings = twin_of("sd15_aesthetic_jpeg", {name: str(folder) for name, folder in folders.items()})
    settings["model"]["pipeline"] = "user/sd15"
    settings["model"]["loading"]["loras"] = {"user/lora": 0.5}
    settings["model"]["rewards"]["aesthetic"]["init_args"] |= {
        "model": "user/clip",
        "head": "user/heads/head.pth",
        "sha256": checksum(folders),
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    small = ["--model.sampler.num_inference_steps", "3", "--model.sampler.candidates", "2"]
    run = ["predict", "--config", str(config), *small, "--trainer.default_root_dir", str(tmp_path / "run")]
    assert ask(online, do.command, *run, "--data.prompts", "[a cat]")[0] == 0
    before = len(hub.requests)
    with do.client(home, hub.url, HF_HUB_OFFLINE="1") as offline:
        assert ask(offline, do.command, *run, "--data.prompts", "[a cat, a dog]")[0] == 0
        for what, name in ((do.pipeline, "pipeline"), (do.clip, "model")):
            found = ask(offline, what, "user/never").message
            assert f"{name} 'user/never' can't be downloaded: the cache lacks it, and HF_HUB_OFFLINE" in found
    assert len(hub.requests) == before
    assert len(list((tmp_path / "run" / "samples").rglob("*.png"))) == 12
