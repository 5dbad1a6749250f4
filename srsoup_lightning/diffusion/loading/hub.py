"""Files of the hub: their names, and their download into the cache of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rewards.networks.hub import connection_errors
from srsoup_lightning.diffusion.loading.options import Loading

_NAME = re.compile(r"(?P<id>\w[\w.-]*/[\w.-]+)(@(?P<revision>[^@/]+))?(/(?P<file>[^@]+\.safetensors))?")
_COMPONENT = (  # weights in one file or in several, but no variants
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # as peft saves a LoRA
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers saves it


class HubName(NamedTuple):
    """Parts of a name on the hub, such as user/name, user/name@revision or user/name@revision/folder/file.safetensors.

    Attributes:
        id: User and name.
        revision: Commit, tag or branch; None for the main branch.
        file: Path of a file of weights; None for no single one.
    """

    id: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, source: str) -> HubName | None:
        """Return the parts of a name, or None where it can't be one."""
        found = _NAME.fullmatch(source)
        return None if found is None else cls(**found.groupdict())


def component_folder(source: str) -> Path:
    """Folder of a component: a local one, or that of its download.

    Args:
        source: Local folder, or user/name[@revision] on the hub.

    Raises:
        OSError: There is no such component, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    if Path(source).is_dir():
        return Path(source)
    name = _name(source)
    if name.file is not None:
        raise FileNotFoundError("a file: name the folder or the id that has it and its config.json")
    with connection_errors():
        return Path(snapshot_download(name.id, revision=name.revision, allow_patterns=list(_COMPONENT)))


def lora_path(source: str) -> Path:
    """Folder or file of a LoRA: a local one, or that of its download.

    Args:
        source: Local folder or file, or user/name[@revision][/file.safetensors] on the hub. Without a file, the hub's
            repository has one as peft or diffusers names it.

    Raises:
        OSError: There is no such LoRA, or the hub does not give it.
    """
    if Path(source).exists():
        return Path(source)
    name = _name(source)
    if name.file is not None:
        return download_file(name.id, name.file, name.revision)
    from huggingface_hub.errors import EntryNotFoundError

    try:
        download_file(name.id, PEFT_CONFIG, name.revision)
        return download_file(name.id, PEFT_WEIGHTS, name.revision).parent
    except EntryNotFoundError:
        return download_file(name.id, LORA_WEIGHTS, name.revision)


def download_pipeline(source: str, loading: Loading, replaced: Mapping[str, object]) -> Path:
    """Download a pipeline and return its folder in the cache.

    Args:
        source: Id on the hub.
        loading: Options of loading.
        replaced: Components that it need not have.

    Raises:
        OSError: The hub does not give it.
    """
    from diffusers import DiffusionPipeline

    with connection_errors():
        return Path(
            DiffusionPipeline.download(
                source,
                revision=loading.revision,
                variant=loading.variant,
                use_safetensors=True,
                trust_remote_code=loading.trust_remote_code,
                **replaced,
            )
        )


def download_file(id_: str, file: str, revision: str | None) -> Path:
    """Download a file of the hub and return its path in the cache.

    Raises:
        OSError: The hub does not give it.
        ValueError: It can't be an id.
    """
    from huggingface_hub import hf_hub_download

    with connection_errors():
        return Path(hf_hub_download(id_, file, revision=revision))


def commit_of(path: Path) -> str:
    """Commit of a file or folder in the cache of the hub."""
    parts = path.parts
    return parts[len(parts) - parts[::-1].index("snapshots")]


def _name(source: str) -> HubName:
    name = HubName.of(source)
    if name is None:
        raise FileNotFoundError("there is nothing of this name on this machine")
    return name
