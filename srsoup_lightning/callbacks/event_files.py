"""TensorBoard's event file of a run: one, in one folder, which is what TensorBoard calls a run.

TensorBoard's own reader shows each point of a curve that was ever written, unless all of the run is written anew. So
what belongs to a finished soup is kept, and whenever curves change that were written before, a new file with everything
takes the place of the old one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from srsoup_lightning.callbacks.boards import result_tag
from srsoup_lightning.report.hparams import METHOD, Value

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary as Proto
    from tensorboard.summary.writer.record_writer import RecordWriter

SUFFIX = ".srsoup"  # of our event files, beside those of the logger
HOUR = 3600.0  # seconds
FIRST_STEP = -(2**62)  # below every place along a front


class Record(NamedTuple):
    """Part of an event file.

    Attributes:
        proto: Its content.
        step: Its step.
        time: Seconds since the epoch.
    """

    proto: Proto
    step: int
    time: float


class EventFile:
    """Event file that can be written anew.

    Args:
        folder: Folder or URL of remote storage.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._writer: RecordWriter | None = None

    def write_anew(self, records: Iterable[Record]) -> None:
        """Write a new file, then remove the content of earlier ones of this class in the folder."""
        from tensorboard.compat import tf
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.close()
        old = list(Path(self.folder).glob(f"*{SUFFIX}"))  # none in remote storage
        tf.io.gfile.makedirs(self.folder)
        # Readers take the files of a folder in the order of their names. Other writers begin with the time in seconds.
        path = os.path.join(self.folder, f"events.out.tfevents.{time.time_ns()}{SUFFIX}")
        self._writer = RecordWriter(tf.io.gfile.GFile(path, "wb"))
        self._write(Event(file_version="brain.Event:2", wall_time=time.time()))
        # A reader that has seen older files drops all of their points.
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=FIRST_STEP, wall_time=time.time()))
        for record in records:
            self.add(record)
        self.flush()
        empty(old)

    def add(self, record: Record) -> None:
        """Add a record to the file."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(summary=record.proto, step=record.step, wall_time=record.time))

    def flush(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, event: Event) -> None:
        if self._writer is None:
            raise RuntimeError("the event file is not open: call write_anew first")
        self._writer.write(event.SerializeToString())


def empty(files: Iterable[Path]) -> None:
    """Remove the content of event files that a newer one replaces, and those that have been empty for an hour.

    TensorBoard's own reader stops for good when the file that it is at disappears. It goes on from an empty one.
    """
    for path in files:
        with suppress(FileNotFoundError):  # another run has removed it
            known = path.stat()
            if known.st_size:
                os.truncate(path, 0)
            elif time.time() - known.st_mtime > HOUR:
                path.unlink()


def curve_records(curves: Mapping[str, Mapping[int, float]]) -> Iterator[Record]:
    """Yield the records of curves by tag, step by step."""
    for step in sorted({step for at in curves.values() for step in at}):
        yield numbers_record({tag: at[step] for tag, at in curves.items() if step in at}, step)


def image_record(tag: str, picture: Image.Image, step: int) -> Record:
    """Return the record of a picture."""
    from torch.utils.tensorboard.summary import image

    return record_of(image(tag, np.asarray(picture.convert("RGB")), dataformats="HWC"), step)


def text_record(tag: str, markdown: str, step: int) -> Record:
    """Return the record of a text."""
    from torch.utils.tensorboard.summary import text

    return record_of(text(tag, markdown), step)


def session_records(settings: Mapping[str, Value], metrics: Iterable[str], step: int) -> list[Record]:
    """Return the records of a session of HParams.

    TensorBoard takes the names of all settings and metrics from the first run that it finds.
    """
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from torch.utils.tensorboard.summary import hparams

    _, start, end = hparams(dict(settings), {})
    kinds = {name: "STRING" if isinstance(value, str) else "FLOAT64" for name, value in settings.items()}
    experiment = api_pb2.Experiment(
        hparam_infos=[
            # TensorBoard sorts by name, and settings that differ come first.
            api_pb2.HParamInfo(
                name=name, type=api_pb2.DataType.Value(f"DATA_TYPE_{kind}"), differs=name.startswith(METHOD)
            )
            for name, kind in kinds.items()
        ],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=result_tag(name)), display_name=name) for name in metrics
        ],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment, version=metadata.PLUGIN_DATA_VERSION)
    begun = type(start)()
    value = begun.value.add(tag=metadata.EXPERIMENT_TAG)
    value.metadata.plugin_data.plugin_name = metadata.PLUGIN_NAME
    value.metadata.plugin_data.content = content.SerializeToString()
    return [record_of(each, step) for each in (begun, start, end)]


def numbers_record(values: Mapping[str, float], step: int) -> Record:
    """Return the record of numbers by tag."""
    from tensorboard.compat.proto.summary_pb2 import Summary as Proto

    return record_of(Proto(value=[Proto.Value(tag=tag, simple_value=value) for tag, value in values.items()]), step)


def record_of(proto: Proto, step: int) -> Record:
    """Return the record of a summary, as of now."""
    return Record(proto, step, time.time())
