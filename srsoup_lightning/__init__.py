"""Steer text-to-image diffusion models by black-box rewards while they sample, for every preference at once."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from srsoup_lightning.version import __version__

_found = find_spec("rewards")
if _found and not any(Path(folder, "checks.py").is_file() for folder in _found.submodule_search_locations or ()):
    raise ImportError(
        f"{_found.origin} is imported in place of the package rewards of srsoup-lightning: rename it, for instance "
        "my_rewards"
    )

if TYPE_CHECKING:
    from srsoup_lightning.costs.limits import Limits
    from srsoup_lightning.data import PromptDataModule
    from srsoup_lightning.diffusion.loading.options import Loading
    from srsoup_lightning.module import SRSoupModule
    from srsoup_lightning.oracle.policy import OraclePolicy
    from srsoup_lightning.preferences import Preferences
    from srsoup_lightning.results.soup import Soup
else:
    _MODULES = {
        "Limits": "costs.limits",
        "Loading": "diffusion.loading.options",
        "OraclePolicy": "oracle.policy",
        "Preferences": "preferences",
        "PromptDataModule": "data",
        "SRSoupModule": "module",
        "Soup": "results.soup",
    }

    def __getattr__(name: str) -> object:
        """Import a public class at its first use. ``srsoup --version`` then needs no torch."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__() -> list[str]:
        """Return the public names, which shells complete before they are imported."""
        return sorted({*globals(), *_MODULES})


__all__ = [
    "Limits",
    "Loading",
    "OraclePolicy",
    "Preferences",
    "PromptDataModule",
    "SRSoupModule",
    "Soup",
    "__version__",
]
