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
    monkeypatch.setattr(latency, "label_decoder", lambda run: SimpleNamespace(texts=texts))
    run = SimpleNamespace(params={})
    rows = [Example(id=str(place), input="x" * size) for place, size in enumerate((3, 1, 3, 2))]
    assert latency.label_times_ms(run, rows) == [3000, 1000, 3000, 2000]
    assert asked == ["xxx", "x", "xx", "xxx", "x", "xxx", "xx"]


def test_a_trained_student_decodes_without_scores_of_labels(run_dir):
    run, rows = load_run(run_dir), [Example(id="a", input="my fan is broken .")]
    (scored,), (decoded,) = (
        evaluator.texts(run.params, rows)
        for evaluator in (run.evaluator(), latency.label_decoder(run))
    )
    assert decoded.ranked_label is None is not scored.ranked_label
    assert decoded.prediction == scored.prediction
    assert latency.label_latency_ms(run_dir, rows[0].input, repeats=2) > 0
