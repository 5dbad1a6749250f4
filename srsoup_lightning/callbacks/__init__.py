"""Callbacks of the Trainer: files, progress, charts and a summary of a run."""

from srsoup_lightning.callbacks.adapter_writer import AdapterWriter
from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.callbacks.over_optimisation import OverOptimisation
from srsoup_lightning.callbacks.progress import SoupProgress
from srsoup_lightning.callbacks.search_keeper import SearchKeeper
from srsoup_lightning.callbacks.summary import RunSummary
from srsoup_lightning.callbacks.tensorboard import ParetoLogger
from srsoup_lightning.callbacks.writer import SampleWriter

__all__ = [
    "AdapterWriter",
    "OverOptimisation",
    "ParetoLogger",
    "RunSummary",
    "SampleWriter",
    "SearchKeeper",
    "SoupCallback",
    "SoupProgress",
]
