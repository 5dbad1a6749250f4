"""Sizes of a pipeline before it is loaded: bytes of its files, bytes to be downloaded, and memory, from its configs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rewards.networks.hub import connection_errors, not_downloaded
from srsoup_lightning.builtin import PIPELINES, PREVIEW_DECODERS
from srsoup_lightning.diffusion.loading.components import component_names
from srsoup_lightning.diffusion.loading.fingerprint import READ
from srsoup_lightning.diffusion.loading.hub import LORA_WEIGHTS, PEFT_WEIGHTS, HubName, download_file
from srsoup_lightning.diffusion.loading.integrity import read_json
from srsoup_lightning.diffusion.loading.meta import largest_layer, meta_backbone, meta_network, parameters
from srsoup_lightning.diffusion.loading.model_index import read_index
from srsoup_lightning.diffusion.loading.options import DTYPES, Loading
from srsoup_lightning.diffusion.loading.pipeline import CENSORS

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model"


class Sizes(NamedTuple):
    """Sizes in bytes.

    Attributes:
        files: Files that loading reads.
        missing: Those of them that are still to be downloaded.
        memory: Estimated peak on the device: the networks that are there at once, the files of the LoRAs that stay
            beside them, and twice the input and output of the decoder's largest layer for every picture that is worked
            on at once.
    """

    files: int
    missing: int
    memory: int


@dataclass(frozen=True)
class _Store:
    """Files of a folder or of a repository of the hub: their sizes by path, their paths here, and which are missing."""

    sizes: dict[str, int]
    fetch: Callable[[str], Path]
    missing: Callable[[str], bool]

    def of(self, files: Iterator[str]) -> tuple[int, int]:
        """Bytes of files, and of those that are missing here."""
        chosen = list(files)
        return sum(self.sizes[file] for file in chosen), sum(self.sizes[file] for file in chosen if self.missing(file))


def sizes_of(pipeline: str, loading: Loading, batch: int, adapters: Sequence[str] = ()) -> Sizes:
    """Sizes of a pipeline, its components and its LoRAs. Of the hub, only lists of files and configs are read.

    Args:
        pipeline: Name of a builtin checkpoint, local folder or hub id.
        loading: Options of loading.
        batch: Number of pictures that are worked on at once.
        adapters: LoRAs that stay beside the network, each a folder, file or hub id.

    Raises:
        FileNotFoundError: There is no such pipeline, component or LoRA, or the hub does not tell.
        ValueError: A damaged index or config, or a class without a backbone.
    """
    source = str(PIPELINES.find(pipeline) or pipeline)
    store = _store(source, f"pipeline {pipeline!r}", loading.revision)
    index = read_index(source, pipeline, loading.revision)
    replaced = {"transformer" if "transformer" in index else "unet": loading.network, "vae": loading.vae}
    parts = {name: part for name, part in replaced.items() if part is not None}
    loaded = {
        name
        for name in component_names(index) - {*loading.omit, *CENSORS}
        if index[name] != [None, None] and name not in parts
    }
    found = [store.of(_pipeline_files(store, loaded, loading.variant))]
    configs = {name: (store, f"{name}/{CONFIG}") for name in loaded if f"{name}/{CONFIG}" in store.sizes}
    for name, part in parts.items():
        other = _store(part, f"{name} {part!r}", None)
        found.append(other.of(_component_files(other)))
        configs[name] = (other, CONFIG)
    if loading.preview_decoder:
        preview = str(PREVIEW_DECODERS.find(loading.preview_decoder) or loading.preview_decoder)
        other = _store(preview, f"preview decoder {preview!r}", None)
        found.append(other.of(_component_files(other)))
    merged, resident = ([_lora_sizes(source) for source in sources] for sources in (loading.loras, adapters))
    found += [*merged, *resident]
    networks = {
        name: meta_network(index[name][1], read_json(place.fetch(file))) for name, (place, file) in configs.items()
    }
    files, missing = map(sum, zip(*found, strict=True))
    memory = _memory(str(index["_class_name"]), networks, loading, batch) + sum(size for size, _ in resident)
    return Sizes(files, missing, memory)


def _memory(kind: str, networks: dict[str, nn.Module], loading: Loading, batch: int) -> int:
    backbone = meta_backbone(kind, networks, loading.height, loading.width)
    latents = torch.empty(1, *backbone.latent_shape, dtype=torch.float32, device="meta")
    decoder = backbone.pipeline.vae
    with torch.no_grad():
        layer = largest_layer(decoder, lambda: backbone.decode(decoder, latents))
    sizes = {name: parameters(network) for name, network in networks.items()}
    working = 2 * (1 if loading.vae_slicing else batch) * layer
    largest = max(max(sizes.values()), sizes["vae"] + working)
    elements = largest if loading.offload == "model" else sum(sizes.values()) + working
    return elements * DTYPES[loading.dtype].itemsize


def _store(source: str, what: str, revision: str | None) -> _Store:
    """Files of a local folder or file, or those that the hub lists."""
    path = Path(source)
    if path.exists():
        folder = path if path.is_dir() else path.parent
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
        return _Store(sizes, lambda file: folder / file, lambda file: False)
    name = HubName.of(source)
    if name is None:
        raise FileNotFoundError(f"no {what}: give a folder or hub id")
    from huggingface_hub import HfApi, try_to_load_from_cache

    at = revision or name.revision
    try:
        with connection_errors():
            about: Any = HfApi().model_info(name.id, revision=at, files_metadata=True)
    except OSError as error:
        raise not_downloaded(what, revision, error) or error from error
    return _Store(
        {each.rfilename: each.size or 0 for each in about.siblings or ()},
        lambda file: download_file(name.id, file, at),
        lambda file: not isinstance(try_to_load_from_cache(name.id, file, revision=about.sha), str),
    )


def _pipeline_files(store: _Store, components: set[str], variant: str | None) -> Iterator[str]:
    """Files of components, with the weights of a variant where there are any."""
    for name in sorted(components):
        files = [file for file in store.sizes if file.startswith(f"{name}/") and Path(file).suffix in READ]
        weights = [file for file in files if file.endswith(".safetensors")]
        plain = [file for file in weights if "." not in Path(file).stem]
        varied = [file for file in weights if variant is not None and f".{variant}" in Path(file).name]
        yield from (file for file in files if file not in weights)
        yield from varied or plain or weights


def _component_files(store: _Store) -> Iterator[str]:
    return (
        file
        for file in store.sizes
        if file == CONFIG or (file.startswith((f"{WEIGHTS}.s", f"{WEIGHTS}-")) and Path(file).suffix in READ)
    )


def _lora_sizes(source: str) -> tuple[int, int]:
    """Bytes of the file of a LoRA, and those of them that are missing here."""
    store = _store(source, f"LoRA {source!r}", None)
    return store.of(_lora_files(store, source))


def _lora_files(store: _Store, source: str) -> Iterator[str]:
    """File of a LoRA: the one that is named, that of peft or that of diffusers; of a local folder, its only one."""
    name = HubName.of(source)
    named = name.file if name is not None and name.file in store.sizes else None
    usual = [file for file in (PEFT_WEIGHTS, LORA_WEIGHTS) if file in store.sizes]
    yield from [named] if named else usual[:1] or list(store.sizes)[:1]
