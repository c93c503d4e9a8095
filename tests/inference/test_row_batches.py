"""Batches of rows that are answered two at a time."""

import threading
import time

import numpy as np
import pytest

from distill.data.ragged import Ragged
from distill.errors import UserError
from distill.inference import row_batches
from distill.inference.row_batches import RowBatches

INPUTS = Ragged.of([[7] * length for length in (3, 5, 4, 2, 1, 6, 8, 9)])


@pytest.fixture
def batches(monkeypatch):
    """Batches of two rows on one CPU, of a shape that is compiled."""
    monkeypatch.setattr(row_batches, "_in_flight", lambda: 2)
    batches = RowBatches(2)
    list(batches(INPUTS, "rows", lambda indices, tokens_BxI: None))
    return batches


def test_one_cpu_device_takes_two_at_a_time_and_others_one(monkeypatch):
    monkeypatch.setattr(row_batches.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(row_batches.jax, "device_count", lambda: 1)
    assert row_batches._in_flight() == 2
    monkeypatch.setattr(row_batches.jax, "device_count", lambda: 2)
    assert row_batches._in_flight() == 1
    monkeypatch.setattr(row_batches.jax, "device_count", lambda: 1)
    monkeypatch.setattr(row_batches.jax, "default_backend", lambda: "gpu")
    assert row_batches._in_flight() == 1


def test_two_batches_are_answered_at_the_same_time(batches):
    both = threading.Barrier(2, timeout=20)  # breaks unless two threads come to it
    found = batches(INPUTS, "rows", lambda indices, tokens_BxI: both.wait())
    assert sorted(answer for _, answer in found) == [0, 0, 1, 1]


def test_each_answer_stands_with_its_rows_though_later_ones_are_ready_first(batches):
    def lengths(indices, tokens_BxI):
        time.sleep(0.1 if 7 in indices else 0.0)  # the first batch has the longest row
        return (tokens_BxI != 0).sum(axis=1)

    seen = []
    for indices, found_B in batches(INPUTS, "rows", lengths):
        assert np.array_equal(found_B, INPUTS.lengths[indices])
        seen += indices.tolist()
    assert seen == np.argsort(-INPUTS.lengths, kind="stable").tolist()


def test_a_program_compiles_alone(batches):
    running, most = [], []

    def answer(indices, tokens_BxI):
        running.append(1)
        time.sleep(0.02)
        most.append(len(running))
        running.pop()

    list(batches(INPUTS, "rows", answer, labels=(3, 4)))  # not compiled yet
    assert most[0] == 1 and max(most) == 2


def test_an_error_in_a_batch_reaches_the_caller_and_ends_the_work(batches):
    asked = []

    def answer(indices, tokens_BxI):
        asked.append(indices)
        raise UserError("a batch that fails")

    with pytest.raises(UserError, match="a batch that fails"):
        list(batches(INPUTS, "rows", answer))
    assert len(asked) == 2


def test_where_one_batch_is_answered_at_a_time_it_is_in_the_calling_thread(batches, monkeypatch):
    monkeypatch.setattr(row_batches, "_in_flight", lambda: 1)
    threads = batches(INPUTS, "rows", lambda *_: threading.current_thread())
    assert {thread for _, thread in threads} == {threading.main_thread()}
