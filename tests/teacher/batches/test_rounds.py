"""`distill annotate --batch`: every row ends once, whatever the provider does with its batches."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from batch_server import batch_server, error_line, line, sizes, stored
from scripted_server import MODEL, answer, reply

from distill.data.examples import read_jsonl
from distill.teacher.batches.ledger import Ledger


def test_a_first_small_batch_then_the_rest(ask, tmp_path):
    with batch_server() as (endpoint, url):
        code, said = ask(url)
    assert code == 0 and said["answered"] == said["parsed"] == said["written"] == 60
    assert sizes(endpoint) == [20, 40] and said["batches"] == 2 and said["requests"] == 60
    assert max(endpoint.asked.values()) == 1
    assert not list((tmp_path / "o.store" / "batches").iterdir())
    batch = endpoint.batches["batch-1"]
    assert batch["endpoint"] == "/v1/chat/completions" and batch["completion_window"] == "24h"
    assert batch["metadata"]["distill_tag"].startswith("distill-")
    assert all(record["batch"] for record in stored(tmp_path))
    assert len(read_jsonl(tmp_path / "o.jsonl", "train")) == 60


def test_what_expires_is_lost_or_fails_is_asked_again_and_repeats_are_passed_over(ask, tmp_path):
    """Each kind hits 5 of the 40 rows of the second batch, in its first round."""

    def spoil(request, before):
        custom_id = request["custom_id"]
        number = order.setdefault(custom_id, len(order))
        if before or number < 20:
            return None
        good = endpoint.answer(request)
        kind = (number - 20) // 5
        if kind == 0:
            return [], [error_line(custom_id, "batch_expired")]
        if kind == 1:
            return [], []
        if kind == 2:
            return [good, good], [error_line(custom_id, "batch_expired")]
        if kind == 3:
            return [line(custom_id, {"error": {"message": "slow"}}, 429)], []
        if kind == 4:
            return [], [line(custom_id, {"error": {"message": "oops"}}, 500)]
        if kind == 5:
            return [line(custom_id, {"model": MODEL, "choices": []})], []
        if kind == 6:
            return [good, line("0" * 32 + "-1", {}), {"no": "id"}], []
        return [line(custom_id, answer(model="another-model"))], []

    order: dict[str, int] = {}
    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url, quiet=False)
    assert code == 0 and said["answered"] == said["parsed"] == 60 and said["failed"] == 0
    # 10 of those with an answer, an answer and an error; 10 of those without a request.
    assert "batch batch-2: passed over 20 results that repeated an answer" in ask.err
    assert sizes(endpoint) == [20, 40, 30]
    assert said["retries"] == {
        "empty_choices": 5,
        "expired": 5,
        "lost": 5,
        "rate_limited": 5,
        "server_error": 5,
        "wrong_model": 5,
    }
    assert len(stored(tmp_path)) == 60
    assert max(endpoint.asked.values()) == 2


def test_reasons_are_those_of_single_requests(ask, tmp_path):
    failures = [
        (400, {"message": "bad thing"}, "bad_request"),
        (400, {"message": "x", "code": "content_filter"}, "filtered"),
        (400, {"message": "maximum context length"}, "too_large"),
        (403, {"message": "not this"}, "forbidden"),
        (404, {"message": "not here"}, "not_found"),
    ]

    def spoil(request, before):
        custom_id = request["custom_id"]
        number = order.setdefault(custom_id, len(order))
        if number < 10:
            return None
        if number < 15:
            status, error, _ = failures[number - 10]
            return [], [line(custom_id, {"error": error}, status)]
        if number == 15:
            return [line(custom_id, answer(None, "content_filter"))], []
        if number == 16:
            return [line(custom_id, answer("<think>hm", "length"))], []
        if number == 17:
            return [], [error_line(custom_id, "batch_expired")]
        return None

    order: dict[str, int] = {}
    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url, "--max_attempts=2", "--retry_failed")
    assert code == 0 and (said["answered"], said["failed"]) == (52, 8)
    expected = dict.fromkeys([reason for *_, reason in failures], 1)
    expected["filtered"] = 2
    assert said["failed_by_reason"] == expected | {"thought_too_long": 1, "expired": 1}
    assert max(endpoint.asked.values()) == 2  # the one that expires, twice


def test_the_first_batch_is_read_before_the_rest_is_paid_for(ask, tmp_path):
    with batch_server() as (endpoint, url):
        endpoint.respond = lambda prompt, draw: "# No"
        code, said = ask(url)
        assert code == 2 and "0 of 20 answers have a label" in said and sizes(endpoint) == [20]
        code, said = ask(url)
        assert code == 2 and "0 of 20 answers" in said and sizes(endpoint) == [20]
        endpoint.respond = type(endpoint)().respond
        code, said = ask(url, "--min_parsed=0")
        assert code == 0 and sizes(endpoint) == [20, 40]


def test_another_model_is_told_and_its_answers_are_taken_later(ask):
    with batch_server() as (endpoint, url):
        endpoint.model = "another-model"
        code, said = ask(url)
        assert code == 2 and "answered by 'another-model'; --any_model accepts it" in said
        assert "still at the provider: batch-1" in said
        code, said = ask(url, "--any_model")
    assert code == 0 and said["models"] == {"another-model": 60} and sizes(endpoint) == [20, 40]
    assert max(endpoint.asked.values()) == 1


def test_several_samples_and_a_provider_that_refuses_them(ask, tmp_path):
    def spoil(request, before):
        if request["body"].get("n", 1) > 1 and refuses:
            body = {"error": {"message": "n must be 1"}}
            return [], [line(request["custom_id"], body, 400)]
        return None

    refuses = False
    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url, "--samples=2", "--sample_seed=0")
        assert code == 0 and sizes(endpoint) == [10, 50] and len(stored(tmp_path)) == 120
    whole = {(r["key"], r["completion"]) for r in stored(tmp_path)}
    refuses = True
    with batch_server(spoil) as (endpoint, url):
        store = f"--store={tmp_path / 'p' / 'o.store'}"
        code, said = ask(url, "--samples=2", "--sample_seed=0", store)
        assert code == 0 and said["answered"] == 60
        assert sizes(endpoint) == [10, 20, 100]
    assert {(r["key"], r["completion"]) for r in stored(tmp_path / "p")} == whole


def test_fewer_samples_than_asked_for_are_completed(ask, tmp_path):
    def spoil(request, before):
        return [endpoint.answer(request, 1)], []

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url, "--samples=2", "--sample_seed=0")
    assert code == 0 and said["answered"] == 60 and len(stored(tmp_path)) == 120


def test_a_submission_whose_response_is_lost_is_found_by_its_tag(ask):
    with batch_server() as (endpoint, url):
        endpoint.drop["POST /batches"] = 1
        endpoint.unlisted["batches"] = 2  # the list shows it at the third look
        code, _ = ask(url)
    assert code == 0 and sizes(endpoint) == [20, 40] and max(endpoint.asked.values()) == 1
    assert endpoint.log.count("GET /batches") == 3


class _Killed(BaseException):
    """The process has ended."""


def test_a_batch_whose_id_was_not_stored_is_found_by_the_next_run(ask, monkeypatch):
    def save(self, entry):
        if entry.batch_id:
            raise _Killed
        kept(self, entry)

    kept = Ledger.save
    with batch_server() as (endpoint, url):
        monkeypatch.setattr(Ledger, "save", save)
        with pytest.raises(_Killed):
            ask(url)
        monkeypatch.setattr(Ledger, "save", kept)
        code, said = ask(url, quiet=False)
    assert code == 0 and said["answered"] == 60 and max(endpoint.asked.values()) == 1
    assert "batch batch-1 of an earlier run is taken up: 20 requests" in ask.err
    assert sizes(endpoint) == [20, 40] and said["requests"] == 40


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal; processes that a script starts in the background ignore it.

    The garbage collector is off: Python ignores what a signal raises in one of its callbacks.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_the_batch_running(ask):
    def interrupt(kind, when):
        if (kind, when) == ("GET /batches/ID", "after"):
            endpoint.hook = lambda kind, when: None
            os.kill(os.getpid(), signal.SIGINT)

    with batch_server() as (endpoint, url):
        endpoint.hook = interrupt
        code, said = ask(url)
        assert code == 130
        told = "interrupted; still at the provider: batch-1; the same command fetches the answers"
        assert told in said
        code, said = ask(url)
    assert code == 0 and sizes(endpoint) == [20, 40] and max(endpoint.asked.values()) == 1


def test_a_batch_that_is_not_in_the_list_is_submitted_again(ask):
    with batch_server() as (endpoint, url):
        endpoint.refuse["POST /batches"] = reply(503, {"error": {"message": "busy"}})
        code, said = ask(url, "--max_attempts=2")
        assert code == 2 and "the submission of a batch failed 2 times (HTTP 503: busy)" in said
        del endpoint.refuse["POST /batches"]
        code, said = ask(url)
    assert code == 0 and sizes(endpoint) == [20, 40]
