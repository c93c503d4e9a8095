"""`distill annotate --batch`: budgets, sizes, and providers that end or know no batch."""

from __future__ import annotations

import json

import pytest
from batch_server import batch_server, error_line, line, sizes, stored
from scripted_server import MODEL, answer, reply

from distill import cli


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
    assert sizes(endpoint) == [15, 5, 15, 15, 10, 15]


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


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_the_answers_of_a_batch_that_ended_early_are_kept(ask, tmp_path, status):
    def spoil(request, before):
        number = order.setdefault(request["custom_id"], len(order))
        code = f"batch_{status}"
        ends_early = before == 0 and 25 <= number < 60
        return ([], [error_line(request["custom_id"], code)]) if ends_early else None

    def run(batch):
        ran(batch)
        if batch["id"] == "batch-2":
            batch["status"] = status

    order: dict[str, int] = {}
    with batch_server(spoil) as (endpoint, url):
        ran, endpoint._run = endpoint._run, run
        code, said = ask(url)
        if status == "cancelled":
            assert code == 2 and "batch-2 was cancelled at the provider; its answers so" in said
            assert len(stored(tmp_path)) == 25
            code, said = ask(url)
    assert code == 0 and said["answered"] == 60 and sizes(endpoint) == [20, 40, 35]
    assert max(endpoint.asked.values()) == 2


def test_a_batch_of_errors_alone_tells_the_first(ask):
    """All requests have the same fault, which only the file of errors says."""

    def spoil(request, before):
        body = {"error": {"message": "The model m does not exist", "code": "model_not_found"}}
        return [], [line(request["custom_id"], body, 404)]

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url)
        assert code == 2 and "has no such model or path (HTTP 404: The model m does not" in said
        assert sizes(endpoint) == [20]
        endpoint.spoil = lambda request, before: None  # no row was given up
        assert ask(url)[1]["answered"] == 60


def test_rounds_without_any_answer_end_the_run(ask):
    def spoil(request, before):
        return [], [error_line(request["custom_id"], "batch_expired", "too late")]

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url)
    assert code == 2 and sizes(endpoint) == [20, 20, 20]
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
    assert code == 0 and sizes(endpoint) == [20, 40]


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
        assert code == 0 and "1 batch of another prompt or other settings is left" in ask.err
        assert ask(url)[0] == 0 and sizes(endpoint)[0] == 20


def test_thoughts_end_the_sending_of_stops(ask, tmp_path):
    def spoil(request, before):
        if request["body"].get("stop"):
            return [line(request["custom_id"], answer("<think>\nit says so"))], []
        return None

    with batch_server(spoil) as (endpoint, url):
        code, said = ask(url)
    assert code == 0 and said["answered"] == said["parsed"] == 60
    assert sizes(endpoint) == [20, 20, 40]
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
