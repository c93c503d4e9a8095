"""Times of single answers: nothing is compiled while they are taken."""

from types import SimpleNamespace

from distill.data.examples import Example
from distill.inference import latency
from distill.inference.load import load_run


def test_each_row_is_answered_before_it_is_timed(monkeypatch):
    now, compiled, asked = [0.0], set(), []

    def texts(params, rows):
        (row,) = rows
        asked.append(row.input)
        now[0] += len(row.input) + (0 if row.input in compiled else 1000)
        compiled.add(row.input)

    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    run = SimpleNamespace(params={}, evaluator=lambda: SimpleNamespace(texts=texts))
    rows = [Example(id=str(place), input="x" * size) for place, size in enumerate((3, 1, 3, 2))]
    assert latency.label_times_ms(run, rows) == [3000, 1000, 3000, 2000]
    assert asked == ["xxx", "x", "xx", "xxx", "x", "xxx", "xx"]


def test_a_trained_student(run_dir):
    rows = [Example(id=str(place), input="my fan is broken .") for place in range(3)]
    times = latency.label_times_ms(load_run(run_dir), rows)
    assert len(times) == 3 and all(time > 0 for time in times)
    assert latency.label_latency_ms(run_dir, "my fan is broken .", repeats=2) > 0
