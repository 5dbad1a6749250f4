"""What happens to soups when they are done: files, progress, charts, a summary."""

from srsoup_lightning.callbacks.progress import SoupProgress
from srsoup_lightning.callbacks.summary import RunSummary
from srsoup_lightning.callbacks.tensorboard import ParetoLogger
from srsoup_lightning.callbacks.writer import SampleWriter

__all__ = ["ParetoLogger", "RunSummary", "SampleWriter", "SoupProgress"]
