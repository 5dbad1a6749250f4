"""Builtin files, found by name. A wheel has them inside the package, a source checkout beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class BuiltinFolder(NamedTuple):
    """A folder of builtin entries, each with a name.

    Args:
        package: Folder of the package that contains them.
        folder: Name of their folder.
        mark: Mark of an entry: a file inside it ("config.json") or its own suffix (".yaml").
    """

    package: Path
    folder: str
    mark: str

    def _entries(self) -> dict[str, Path]:
        homes = (self.package.parent / self.folder, self.package / self.folder)
        if self.mark.startswith("."):
            return {path.stem: path for home in homes for path in home.glob(f"*{self.mark}")}
        return {path.parent.name: path.parent for home in homes for path in home.glob(f"*/{self.mark}")}

    def find(self, name: str) -> Path | None:
        """Path of the entry of that name, or None if there is none."""
        return self._entries().get(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries())


CLIP_MODELS = BuiltinFolder(Path(__file__).resolve().parent, "checkpoints", "config.json")
