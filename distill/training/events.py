"""TensorBoard events, written by the thread that trains.

TensorBoard's usual writers hand events to a thread of their own. When that thread dies, as it does
where the clock goes back, the queue before it fills and the run waits for ever.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from distill.common.atomic import is_local

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
_FLUSH_SECONDS = 30.0


class EventWriter:
    """An event file of a run folder."""

    def __init__(self, folder: epath.Path, first_step: int) -> None:
        """Opens a file whose name comes after those that are there, whatever the clock says.

        Args:
          folder: of the run.
          first_step: TensorBoard forgets what earlier files say of this step and later ones.
        """
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        numbers = [_NAME.match(path.name) for path in folder.iterdir()]
        number = max([int(time.time()), *(int(found[1]) + 1 for found in numbers if found)])
        host = socket.gethostname()
        self._file = _record_writer(folder / f"events.out.tfevents.{number:010d}.{host}")
        self._flushed = time.monotonic()
        self._add(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=first_step, session_log=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars of a step."""
        scalars = [
            self._summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
        ]
        self._add(step=step, summary=self._summary(value=scalars))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.flush()
        self._file.close()

    def _add(self, **fields: object) -> None:
        self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())


class _Buckets:
    """Opens files for tensorboardX, which itself reaches buckets through packages of its own.

    TensorFlow, which epath needs for buckets anyway, writes the whole object again at each flush.
    """

    @staticmethod
    def open(path: str) -> Any:
        import tensorflow as tf

        return tf.io.gfile.GFile(path, "wb")


def _record_writer(path: epath.Path) -> Any:
    from tensorboardX.record_writer import RecordWriter, register_writer_factory

    if not is_local(path):
        register_writer_factory("gs", _Buckets)
    return RecordWriter(str(path))
