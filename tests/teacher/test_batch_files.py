"""Batch files: requests out, results in any order, failures for another round."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.teacher import batch_files, prompts, samples
from distill.teacher.sampling import Digests
from distill.teacher.storage.keys import key_of
from distill.teacher.storage.store import Store
from distill.tickets import server


@pytest.fixture
def job(tickets, sampling, tmp_path):
    """Rows, prompt, settings of two samples a row, and an open store."""
    prompt, asks = prompts.load_prompt("tickets"), sampling(temperature=0.7)
    digests = Digests(prompt, asks)
    with Store(tmp_path / "s") as store:

        def missing():
            return samples.pending_rows(tickets[:12], digests, 2, store, False)

        yield prompt, asks, store, missing


def _answer(line):
    """What a batch service says to a request."""
    request = json.loads(line)
    body = request["body"]
    respond = server.tickets_teacher()
    prompt = body["messages"][-1]["content"]
    texts = [respond(prompt, body["seed"] + i) for i in range(body["n"])]
    body = server._content(body, prompt, texts)
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None}


def _save(path, results):
    path.write_text("".join(json.dumps(result) + "\n" for result in results))
    return path


def test_results_are_matched_in_any_order_and_failures_go_round_again(job, tmp_path):
    prompt, asks, store, missing = job
    out = tmp_path / "batch.jsonl"
    assert batch_files.write_requests(out, missing(), prompt, asks) == {
        "requests": 12,
        "files": [str(out)],
    }
    lines = out.read_text().splitlines()
    first = json.loads(lines[0])
    assert first["method"] == "POST" and first["url"] == "/v1/chat/completions"
    assert len(first["custom_id"]) <= 64 and first["body"]["n"] == 2
    results = [_answer(line) for line in lines]
    results[1] = {
        "custom_id": results[1]["custom_id"],
        "response": None,
        "error": {"code": "batch_expired", "message": "\x1b[2Jgone"},
    }
    results[2]["response"] = {"status_code": 429, "body": {"error": {"message": "slow"}}}
    results[3]["response"]["body"]["choices"] = []
    results[4]["response"]["body"]["model"] = "another"
    results[5]["response"]["body"]["choices"].pop()  # n was passed over
    del results[6]  # never came
    results.append({"custom_id": "0" * 32 + "-1", "response": None, "error": None})
    random.Random(0).shuffle(results)
    half = len(results) // 2
    files = [
        _save(tmp_path / "a.jsonl", results[:half]),
        _save(tmp_path / "b.jsonl", results[half:]),
    ]
    said = batch_files.read_results(files, missing(), prompt, asks, store)
    assert (said["stored"], said["unasked"]) == (2 * 6 + 1, 1)
    reasons = {f["id"].split("/")[-1]: f["reason"] for f in said["failed"]}
    assert reasons == {
        "1": "expired",
        "2": "rate_limited",
        "3": "empty_choices",
        "4": "wrong_model",
    }
    assert all("\x1b" not in f["message"] for f in said["failed"])
    messages = {f["id"].split("/")[-1]: f["message"] for f in said["failed"]}
    assert messages["1"] == "\\x1b[2Jgone" and messages["2"].startswith("HTTP 429: ")
    # The same files again add nothing.
    again = batch_files.read_results(files, missing(), prompt, asks, store)
    assert again["stored"] == 0 and len(again["failed"]) == 4
    # The next round asks for exactly what is left, the second sample of row 5 among it.
    second = batch_files.write_requests(out, missing(), prompt, asks)
    lines = out.read_text().splitlines()
    assert second["requests"] == len(lines) == 6
    alone = [json.loads(line) for line in lines if "n" not in json.loads(line)["body"]]
    assert len(alone) == 1 and alone[0]["body"]["seed"] == asks.seed + 1
    for request in alone:
        request["body"]["n"] = 1
    lines = [json.dumps(alone[0]) if "n" not in json.loads(ln)["body"] else ln for ln in lines]
    batch_files.read_results(
        [_save(tmp_path / "c.jsonl", map(_answer, lines))], missing(), prompt, asks, store
    )
    assert batch_files.write_requests(out, missing(), prompt, asks) == {"requests": 0, "files": []}
    assert len([*store.records()]) == 24


def test_an_answer_is_taken_though_the_row_half_ended_elsewhere(job, tickets, tmp_path):
    """Between writing and reading, samples were answered, or failed, over HTTP."""
    prompt, asks, store, missing = job
    out = tmp_path / "batch.jsonl"
    batch_files.write_requests(out, missing(), prompt, asks)
    results = [_answer(line) for line in out.read_text().splitlines()]
    for result in results:
        del result["response"]["body"]["usage"]
    first, second = list(missing())[:2]
    online = {"completion": "online", "finish": "stop", "usage": {"in": 1, "out": 1}}
    answered = key_of(first.digest, 0)
    failed = key_of(second.digest, 0)
    store.append({"key": answered, "ok": True} | online)
    store.append({"key": failed, "ok": False, "failure": "timeout"})
    digests = Digests(prompt, asks)
    left = samples.pending_rows(tickets[:12], digests, 2, store, True)
    said = batch_files.read_results(
        [_save(tmp_path / "r.jsonl", [*results, results[3]])], left, prompt, asks, store
    )
    assert (said["stored"], said["unasked"], said["failed"]) == (23, 1, [])
    assert store.get(answered)["completion"] == "online" and store.get(failed)["ok"]
    late = store.get(key_of(first.digest, 1))
    assert late["completion"] == results[0]["response"]["body"]["choices"][1]["message"]["content"]
    assert late["usage"]["in"] > 100 and late["usage"]["estimated"]


def test_what_a_batch_says_is_what_http_says(job, serve, run_job, tickets, tmp_path):
    prompt, asks, store, missing = job
    out = tmp_path / "batch.jsonl"
    batch_files.write_requests(out, missing(), prompt, asks)
    results = _save(tmp_path / "r.jsonl", map(_answer, out.read_text().splitlines()))
    batch_files.read_results([results], missing(), prompt, asks, store)
    with serve() as (_, url):
        online = run_job(url, tickets[:12], tmp_path / "t", samples=2, asks=asks)

    def set_of(records):
        return {(r["id"], r["digest"], r["sample"], r["completion"]) for r in records}

    assert set_of(store.records()) == set_of(online.records)


def test_files_are_cut_at_the_bounds_of_the_service(job, tmp_path):
    prompt, asks, _, missing = job
    out = tmp_path / "batch.jsonl"
    said = batch_files.write_requests(out, missing(), prompt, asks, max_requests=5)
    assert [p.rsplit("/")[-1] for p in said["files"]] == [
        "batch.jsonl",
        "batch-1.jsonl",
        "batch-2.jsonl",
    ]
    sizes = [len(Path(path).read_text().splitlines()) for path in said["files"]]
    assert sizes == [5, 5, 2]
    size = len(out.read_text().splitlines()[0]) + 10
    assert (
        len(batch_files.write_requests(out, missing(), prompt, asks, max_bytes=size)["files"]) == 12
    )


def test_files_that_are_no_results_are_named(job, tmp_path):
    prompt, asks, store, missing = job
    path = tmp_path / "r.jsonl"
    path.write_text('{"custom_id": "x", "response": null}\n{"id": 3}\n')
    with pytest.raises(UserError, match=r"r.jsonl:2: no `custom_id`"):
        batch_files.read_results([path], missing(), prompt, asks, store)
