"""What happens to soups when they are done: files, progress, a summary."""

from srsoup_lightning.callbacks.progress import SoupProgress
from srsoup_lightning.callbacks.summary import RunSummary
from srsoup_lightning.callbacks.writer import SampleWriter

__all__ = ["RunSummary", "SampleWriter", "SoupProgress"]
