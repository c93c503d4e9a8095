"""`distill annotate --batch`: every row ends once, whatever the provider does with its batches."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import pytest
from batch_server import batch_server, error_line, line
from scripted_server import MODEL, answer, reply

from distill import cli
from distill.common import flags as settings
from distill.data.examples import read_jsonl, write_jsonl
from distill.teacher.batches.ledger import Ledger
from distill.teacher.batches.settings import Batching
from distill.teacher.storage.store import Store


@pytest.fixture
def sixty(tmp_path, tickets):
    """60 rows in a file."""
    write_jsonl(tmp_path / "sixty.jsonl", tickets[:60])
    return tmp_path / "sixty.jsonl"


@pytest.fixture
def ask(sixty, tmp_path, capsys):
    """`ask(url, ...)`: exit code, and the result or what stderr says."""

    def run(url, *more, quiet=True):
        argv = [f"--input={sixty}", "--prompt=tickets", f"--model={MODEL}", f"--base_url={url}"]
        argv += [f"--output={tmp_path / 'o.jsonl'}", "--json", "--batch_poll_seconds=0.01"]
        argv += ["--batch", "--backoff_seconds=0.001"]
        argv += ["--progress_seconds=0"] if quiet else []
        code = cli.main(["annotate", *argv, *more])
        said = capsys.readouterr()
        run.err = said.err
        return code, said.err if code else json.loads(said.out)

    return run


@pytest.fixture(autouse=True)
def short_settling(monkeypatch):
    """The list of the mock shows a batch at once, or after a number of looks."""
    read = settings.from_options

    def shortened(kind, options):
        made = read(kind, options)
        if isinstance(made, Batching):
            return dataclasses.replace(made, settle_seconds=0.01)
        return made

    monkeypatch.setattr(settings, "from_options", shortened)


def _sizes(endpoint):
    """Requests of each batch, in their order."""
    files = (batch["input_file_id"] for batch in endpoint.batches.values())
    return [len(endpoint.files[name].splitlines()) for name in files]


def _records(folder):
    with Store(folder / "o.store", read_only=True) as store:
        return list(store.records())


def test_a_first_small_batch_then_the_rest(ask, tmp_path):
    with batch_server() as (endpoint, url):
        code, said = ask(url)
    assert code == 0 and said["answered"] == said["parsed"] == said["written"] == 60
    assert _sizes(endpoint) == [20, 40] and said["batches"] == 2 and said["requests"] == 60
    assert max(endpoint.asked.values()) == 1
    assert not list((tmp_path / "o.store" / "batches").iterdir())
    batch = endpoint.batches["batch-1"]
    assert batch["endpoint"] == "/v1/chat/completions" and batch["completion_window"] == "24h"
    assert batch["metadata"]["distill_tag"].startswith("distill-")
    assert all(record["batch"] for record in _records(tmp_path))
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
    assert "batch batch-2: 20 results that repeat an answer" in ask.err
    assert _sizes(endpoint) == [20, 40, 30]
    assert said["retries"] == {
        "empty_choices": 5,
        "expired": 5,
        "lost": 5,
        "rate_limited": 5,
        "server_error": 5,
        "wrong_model": 5,
    }
    assert len(_records(tmp_path)) == 60
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
        assert code == 2 and "0 of 20 answers have a label" in said and _sizes(endpoint) == [20]
        code, said = ask(url)
        assert code == 2 and "0 of 20 answers" in said and _sizes(endpoint) == [20]
        endpoint.respond = type(endpoint)().respond
        code, said = ask(url, "--min_parsed=0")
        assert code == 0 and _sizes(endpoint) == [20, 40]


def test_another_model_is_told_and_its_answers_are_taken_later(ask):
    with batch_server() as (endpoint, url):
        endpoint.model = "another-model"
        code, said = ask(url)
        assert code == 2 and "answered by 'another-model'; --any_model accepts it" in said
        assert "still at the provider: batch-1" in said
        code, said = ask(url, "--any_model")
    assert code == 0 and said["models"] == {"another-model": 60} and _sizes(endpoint) == [20, 40]
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
        assert code == 0 and _sizes(endpoint) == [10, 50] and len(_records(tmp_path)) == 120
    whole = {(r["key"], r["completion"]) for r in _records(tmp_path)}
    refuses = True
    with batch_server(spoil) as (endpoint, url):
        store = f"--store={tmp_path / 'p' / 'o.store'}"
        code, said = ask(url, "--samples=2", "--sample_seed=0", store)
        assert code == 0 and said["answered"] == 60
        assert _sizes(endpoint) == [10, 20, 100]
    assert {(r["key"], r["completion"]) for r in _records(tmp_path / "p")} == whole


def test_fewer_samples_than_asked_for_are_completed(ask, tmp_path):
    def spoil(request, before):
        return [endpoint.answer(request, 1)], []

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url, "--samples=2", "--sample_seed=0")
    assert code == 0 and said["answered"] == 60 and len(_records(tmp_path)) == 120


def test_a_submission_whose_response_is_lost_is_found_by_its_tag(ask):
    with batch_server() as (endpoint, url):
        endpoint.drop["POST /batches"] = 1
        endpoint.unlisted["batches"] = 2  # the list shows it at the third look
        code, _ = ask(url)
    assert code == 0 and _sizes(endpoint) == [20, 40] and max(endpoint.asked.values()) == 1
    assert endpoint.log.count("GET /batches") == 3


class _Killed(BaseException):
    """The process has ended."""


def test_a_batch_whose_id_was_not_stored_is_found_by_the_next_run(ask, monkeypatch):
    def save(self, entry):
        if entry.batch_id:
            raise _Killed
        stored(self, entry)

    stored = Ledger.save
    with batch_server() as (endpoint, url):
        monkeypatch.setattr(Ledger, "save", save)
        with pytest.raises(_Killed):
            ask(url)
        monkeypatch.setattr(Ledger, "save", stored)
        code, said = ask(url, quiet=False)
    assert code == 0 and said["answered"] == 60 and max(endpoint.asked.values()) == 1
    assert "batch batch-1 of an earlier run is taken up: 20 requests" in ask.err
    assert _sizes(endpoint) == [20, 40] and said["requests"] == 40


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
    assert code == 0 and _sizes(endpoint) == [20, 40] and max(endpoint.asked.values()) == 1


def test_a_batch_that_is_not_in_the_list_is_submitted_again(ask):
    with batch_server() as (endpoint, url):
        endpoint.refuse["POST /batches"] = reply(503, {"error": {"message": "busy"}})
        code, said = ask(url, "--max_attempts=2")
        assert code == 2 and "the submission of a batch failed 2 times (HTTP 503: busy)" in said
        del endpoint.refuse["POST /batches"]
        code, said = ask(url)
    assert code == 0 and _sizes(endpoint) == [20, 40]


def test_the_budget_and_the_price_of_batches(ask, tmp_path):
    prices = tmp_path / "prices.json"
    costs = {}
    for share in (1.0, 0.5):
        prices.write_text(json.dumps({MODEL: {"in": 10, "out": 30, "batch": share}}))
        with batch_server() as (_, url):
            store = f"--store={tmp_path / str(share)}"
            code, said = ask(url, f"--prices={prices}", store, "--split=train")
            assert code == 0
            costs[share] = said["cost"], said["teacher"]["cost_per_row"]
    assert costs[0.5] == pytest.approx([cost / 2 for cost in costs[1.0]])
    bound = costs[0.5][0] / 2
    with batch_server() as (_, url):
        more = f"--prices={prices}", f"--store={tmp_path / 'bound'}", f"--max_cost={bound}"
        code, said = ask(url, *more)
        assert code == 0 and said["stopped"] == "max_cost" and 20 <= said["answered"] <= 30
        assert 0.8 * bound < said["cost"] <= bound
        code, said = ask(url, *more[:2], "--max_rows=5")
        assert code == 0 and said["stopped"] == "max_rows" and said["asked"] == 5


def test_batches_of_a_bounded_size_and_a_queue_that_is_full(ask):
    with batch_server() as (endpoint, url):
        run = endpoint._run

        def limited(batch):
            if batch["id"] != "batch-3":
                return run(batch)
            error = {"code": "token_limit_exceeded", "message": "queue full"}
            batch.update(status="failed", errors={"data": [error]})

        endpoint._run = limited
        code, said = ask(url, "--batch_requests=15")
    assert code == 0 and said["answered"] == 60 and max(endpoint.asked.values()) == 1
    assert _sizes(endpoint) == [15, 5, 15, 15, 10, 15]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            {"status": "failed", "errors": {"data": [{"code": "bad", "message": "line 3"}]}},
            "the provider refuses batch batch-1: bad: line 3",
        ),
        ({"status": "cancelled"}, "batch batch-1 was cancelled at the provider"),
    ],
)
def test_batches_that_end_badly_are_told(ask, state, told):
    with batch_server() as (endpoint, url):
        run, endpoint._run = endpoint._run, lambda batch: batch.update(state)
        code, said = ask(url)
        assert code == 2 and told in said
        endpoint._run = run
        code, said = ask(url)
    assert code == 0 and said["answered"] == 60


def test_rounds_without_any_answer_end_the_run(ask):
    def spoil(request, before):
        return [], [error_line(request["custom_id"], "batch_expired", "too late")]

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url)
    assert code == 2 and _sizes(endpoint) == [20, 20, 20]
    assert "3 rounds of batches in a row ended without any answer (60 expired; the last" in said


def test_what_is_no_longer_at_the_provider_is_not_paid_for_again(ask, tmp_path):
    with batch_server() as (endpoint, url):
        endpoint.refuse["GET /batches/ID"] = reply(500, {"error": {"message": "down"}})
        code, said = ask(url, "--max_attempts=2")
        assert code == 2 and "the state of batch batch-1 failed 2 times" in said
        assert "still at the provider: batch-1; the same command fetches the answers" in said
        endpoint.refuse["GET /batches/ID"] = reply(404, {"error": {"message": "gone"}})
        kept, endpoint.batches = endpoint.batches, {}
        code, said = ask(url)
        assert code == 2 and "the provider does not know batch batch-1" in said
        assert "To give up its 20 answers and pay for them again, remove " in said
        endpoint.batches = kept
        del endpoint.refuse["GET /batches/ID"]
        endpoint.refuse["GET /files/ID/content"] = reply(404, {"error": {"message": "gone"}})
        code, said = ask(url)
        assert code == 2 and "the results of batch batch-1 are no longer at the provider" in said
        del endpoint.refuse["GET /files/ID/content"]
        code, said = ask(url)
    assert code == 0 and _sizes(endpoint) == [20, 40]


def test_rows_in_a_batch_are_not_asked_for_otherwise(ask, sixty, tmp_path, capsys):
    with batch_server() as (endpoint, url):
        endpoint.refuse["GET /batches/ID"] = reply(500, {"error": {"message": "down"}})
        assert ask(url, "--max_attempts=1")[0] == 2
        argv = ["annotate", f"--input={sixty}", "--prompt=tickets", f"--model={MODEL}"]
        argv += [f"--output={tmp_path / 'o.jsonl'}", f"--base_url={url}"]
        for more in ([], [f"--batch_write={tmp_path / 'b.jsonl'}"]):
            assert cli.main([*argv, *more]) == 2
            assert "add --batch to fetch their answers" in capsys.readouterr().err
        other = url.replace("127.0.0.1", "localhost")
        code, said = ask(other)
        assert code == 2 and f"was submitted to {url}: give --base_url={url}" in said
        del endpoint.refuse["GET /batches/ID"]
        code, said = ask(url, "--max_tokens=99", quiet=False)
        assert code == 0 and "1 batches of another prompt or other settings are left" in ask.err
        assert ask(url)[0] == 0 and _sizes(endpoint)[0] == 20


def test_thoughts_end_the_sending_of_stops(ask, tmp_path):
    def spoil(request, before):
        if request["body"].get("stop"):
            return [line(request["custom_id"], answer("<think>\nit says so"))], []
        return None

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url)
    assert code == 0 and said["answered"] == said["parsed"] == 60
    assert _sizes(endpoint) == [20, 20, 40]
    assert said["tokens"]["out"] > 200  # the useless answers are counted


def test_a_server_without_batches_is_told(ask, serve):
    with serve() as (_, url):
        code, said = ask(url)
    assert code == 2 and "HTTP 404: no path /v1/files" in said and "leave out --batch" in said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--batch", "--concurrency=3"], "--concurrency works only without --batch"),
        (["--batch_requests=3"], "--batch_requests works only with --batch"),
        (["--batch", "--batch_write=b"], "got both --batch and --batch_write"),
    ],
)
def test_flags_that_would_be_ignored(more, told, sixty, tmp_path, capsys):
    argv = [f"--input={sixty}", "--prompt=tickets", "--model=m", f"--output={tmp_path / 'o'}"]
    assert cli.main(["annotate", *argv, *more]) == 2
    assert told in capsys.readouterr().err
