"""Fingerprints of the files that a model is loaded from, so that two runs can tell whether they have the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from srsoup_lightning.adapters import Adapters
from srsoup_lightning.builtin import PIPELINES, PREVIEW_DECODERS
from srsoup_lightning.diffusion.loading.hub import HubName, commit_of, component_folder, download_file, lora_path
from srsoup_lightning.diffusion.loading.model_index import FILE, read_index
from srsoup_lightning.diffusion.loading.options import Loading

READ = frozenset({".json", ".model", ".safetensors", ".txt"})  # suffixes of the files that loading reads
BLOCK, BLOCKS = 1 << 16, 64


def loaded_model(pipeline: str, loading: Loading, adapters: Adapters | None = None) -> dict[str, object]:
    """Facts about a pipeline and its options, which are equal where the loaded model is.

    Names and places are left out where there are files: fingerprints stand for them.

    Args:
        pipeline: Name of a builtin checkpoint, local folder or hub id.
        loading: Options of loading.
        adapters: Adapters by which predictions depend on a preference.

    Raises:
        FileNotFoundError: No such pipeline, or the hub does not give access to it.
        ValueError: A damaged index.
    """
    preview = loading.preview_decoder and str(PREVIEW_DECODERS.find(loading.preview_decoder) or loading.preview_decoder)
    parts = {"network": loading.network, "vae": loading.vae, "preview_decoder": preview}
    return {
        "weights": _of_pipeline(str(PIPELINES.find(pipeline) or pipeline), pipeline, loading.revision),
        "parts": {name: _of_part(source, component_folder) for name, source in parts.items() if source},
        "loras": [
            {"weights": _of_part(source, lora_path), "weight": weight} for source, weight in loading.loras.items()
        ],
        "loading": replace(loading, loras={}, base_steps=0, network=None, vae=None, preview_decoder=None),
        "base_steps": loading.base_steps,
        **({} if adapters is None else {"adapters": _of_adapters(adapters)}),
    }


def fingerprint(path: Path) -> str:
    """Fingerprint of a file, or of the files of a folder that loading reads.

    Of a large file, its size and blocks that are evenly spread over it count. Training changes all of them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in READ):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    """The whole of a small file, and evenly spread blocks of a large one."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if size <= BLOCK * BLOCKS:
            yield content.read()
            return
        for number in range(BLOCKS):
            content.seek(number * (size - BLOCK) // (BLOCKS - 1))
            yield content.read(BLOCK)


def _of_adapters(adapters: Adapters) -> dict[str, object]:
    """Facts about a policy of adapters: its options, with fingerprints in place of places."""
    options = repr(adapters)
    for source in adapters.sources:
        options = options.replace(repr(source), repr(_of_part(source, lora_path)))
    return {"policy": options}


def _of_pipeline(source: str, pipeline: str, revision: str | None) -> str:
    """Fingerprint of a pipeline; its id and commit where it comes from the hub."""
    if Path(source).is_dir():
        return fingerprint(Path(source))
    read_index(source, pipeline, revision)  # or says why there is none
    return f"{source}@{commit_of(download_file(source, FILE, revision))}"


def _of_part(source: str, find: Callable[[str], Path]) -> str:
    """Fingerprint of a component or a LoRA; its name and commit where it comes from the hub."""
    if Path(source).exists():
        return fingerprint(Path(source))
    try:
        path = find(source)
    except OSError:  # whoever loads it says why
        return source
    name = HubName.of(source)
    assert name is not None
    return f"{name.id}@{commit_of(path)}/{name.file or ''}"
