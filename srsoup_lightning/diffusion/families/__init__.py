"""Model families, one file each. A family is found by itself, through the pipeline classes that it names."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone


@cache
def families() -> dict[str, type[PipelineBackbone]]:
    """Backbone of each pipeline class of diffusers that has a family here, by the name of the pipeline class."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    found = {name: each for each in classes if issubclass(each, PipelineBackbone) for name in each.pipelines}
    return dict(sorted(found.items()))
