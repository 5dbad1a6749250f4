"""Callbacks of the Trainer: files, progress, charts and a summary of the soups that a run makes."""

from srsoup_lightning.callbacks.base import SoupCallback
from srsoup_lightning.callbacks.progress import SoupProgress
from srsoup_lightning.callbacks.summary import RunSummary
from srsoup_lightning.callbacks.tensorboard import ParetoLogger
from srsoup_lightning.callbacks.writer import SampleWriter

__all__ = ["ParetoLogger", "RunSummary", "SampleWriter", "SoupCallback", "SoupProgress"]
