"""TensorBoard reads the event files."""

import pathlib

from distill.training.events import EventWriter


def _read(folder: pathlib.Path) -> list[tuple[int, str, float]]:
    import tensorflow as tf

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found += [(event.step, v.tag, round(v.simple_value, 5)) for v in event.summary.value]
            if event.HasField("session_log"):
                found.append((event.step, "start", 0.0))
    return found


def test_tensorboard_reads_what_is_written(tmp_path):
    log = EventWriter(tmp_path, 5)
    log.write(6, {"loss": 0.5, "steps_per_second": 2.0})
    log.write(8, {"loss": 0.25})
    log.close()
    assert _read(tmp_path) == [
        (5, "start", 0.0),
        (6, "loss", 0.5),
        (6, "steps_per_second", 2.0),
        (8, "loss", 0.25),
    ]
