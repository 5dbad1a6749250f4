"""The source of a model's files, and its one-line errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.builtin import CLIP_MODELS
from rewards.checks import first_line, require_no_url
from rewards.networks.hub import NO_FILE, connection_errors, hub_cause, not_downloaded


@dataclass(frozen=True)
class Source:
    """The name of a builtin checkpoint, a local folder or a hub id, looked up in this order.

    Args:
        name: The name, folder or id.
        revision: Commit, tag or branch of the hub id; None for the main branch.

    Raises:
        FileNotFoundError: If the name is none of these.
        ValueError: If a folder comes with a revision, or the name is a URL. The message does not show it.
    """

    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        require_no_url("model", self.name)
        if self.folder is None and (self.name.startswith((".", "~", "/")) or self.name.count("/") != 1):
            raise self.not_found("there is no such folder")
        if self.folder is not None and self.revision is not None:
            raise ValueError(
                f"revision is {self.revision!r}, but {self.name} is a folder on this machine, which has no revisions: "
                "leave the revision out, or give a hub id."
            )

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, or None for a hub id."""
        folder = CLIP_MODELS.find(self.name) or Path(self.name).expanduser()
        return folder if folder.is_dir() else None

    def load(self, loader: Any, **options: object) -> Any:  # noqa: ANN401
        """``loader.from_pretrained`` of the folder, or of the hub id at its revision. Code from there is never run."""
        location, revision = str(self.folder or self.name), self.revision or "main"
        with connection_errors():
            return loader.from_pretrained(location, revision=revision, trust_remote_code=False, **options)

    def not_found(self, reason: str | Exception) -> FileNotFoundError:
        """The error where no model is found."""
        builtin = ", ".join(CLIP_MODELS.names()) or "none"
        return self._not_downloaded(reason) or FileNotFoundError(
            f"no model {self.name!r} ({first_line(reason)}): "
            f"give a hub id, a local folder or the name of a builtin checkpoint ({builtin})."
        )

    def no_preprocessing(self, error: Exception) -> FileNotFoundError:
        """The error of a model without tokenizer or image preprocessing."""
        lacking = None if hub_cause(error) == NO_FILE else self._not_downloaded(error)
        return lacking or FileNotFoundError(
            f"{self.name} lacks its tokenizer or its image preprocessing ({first_line(error)}): save the model's "
            "processor there, or name another hub id or folder as the reward's processor, if it takes one."
        )

    def _not_downloaded(self, reason: str | Exception) -> FileNotFoundError | None:
        if isinstance(reason, str):
            return None
        return not_downloaded(f"model {self.name!r}", self.revision, reason)

    def only_pickles(self) -> ValueError:
        """The error of a model that has weights, but none in safetensors."""
        return ValueError(
            f"{self.name} holds no safetensors weights, and rewards open no pickles such as pytorch_model.bin: load it "
            "once with transformers, in an environment you trust, and write it again by its save_pretrained."
        )
