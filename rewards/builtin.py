"""What comes with the packages, found by name: inside the package in a wheel, beside it in a source checkout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class BuiltinFolder(NamedTuple):
    """A folder of named things that ship.

    Args:
        package: The folder of the package that they ship in.
        folder: The name of their folder.
        mark: What makes an entry one of them: a file inside it ("config.json") or its own suffix (".yaml").
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
        """Where the entry of that name lies, or None if none is called so."""
        return self._entries().get(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries())


CLIP_MODELS = BuiltinFolder(Path(__file__).resolve().parent, "checkpoints", "config.json")
