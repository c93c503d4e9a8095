"""Answers belong to what was asked: other ids, files and orders of rows ask for nothing again."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from scripted_server import MODEL, good, scripted

from distill import cli
from distill.data.examples import read_jsonl
from distill.teacher.storage.keys import key_of, position_key
from distill.teacher.storage.store import Store

ASK = ["annotate", "--prompt=tickets", f"--model={MODEL}", "--progress_seconds=0", "--json"]


def _write(path, rows):
    """Rows without ids, which their positions then make."""
    path.write_text("".join(json.dumps({"input": row.input}) + "\n" for row in rows))
    return path


def _ask(capsys, url, rows, folder, *more):
    argv = [f"--input={rows}", f"--base_url={url}", f"--output={folder / 'o.jsonl'}"]
    assert cli.main([*ASK, *argv, f"--store={folder / 's'}", *more]) == 0
    return json.loads(capsys.readouterr().out)


def _positional(store, folder, name):
    """Writes a store again as version 0.1 wrote it: keys with the ids of rows, schema 1."""
    (folder / name).mkdir()
    (folder / name / "store.json").write_text('{"schema": 1}')
    with Store(store, read_only=True) as opened:
        records = [*opened.records()]
    for record in records:
        record["key"] = position_key(record["id"], record["digest"], record["sample"])
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / name / "shard-00000.jsonl").write_text(lines)
    return folder / name


@pytest.mark.parametrize("earlier", [False, True], ids=["content", "positions"])
def test_a_renamed_file_or_another_order_asks_for_new_rows_alone(
    serve, tickets, tmp_path, capsys, earlier
):
    with serve() as (endpoint, url):
        first = _ask(capsys, url, _write(tmp_path / "a.jsonl", tickets[:30]), tmp_path)
        assert endpoint.counts["answered"] == first["requests"] == 30
        before = read_jsonl(tmp_path / "o.jsonl", "train")
        if earlier:
            moved = _positional(tmp_path / "s", tmp_path, "earlier")
            shutil.rmtree(tmp_path / "s")
            moved.rename(tmp_path / "s")
        renamed = _ask(capsys, url, _write(tmp_path / "b.jsonl", tickets[:30]), tmp_path)
        assert (renamed["requests"], renamed["answered"]) == (0, 30)
        inserted = [tickets[40], *tickets[:30][::-1]]
        longer = _ask(capsys, url, _write(tmp_path / "b.jsonl", inserted), tmp_path)
        assert (longer["requests"], longer["answered"]) == (1, 31)
    after = read_jsonl(tmp_path / "o.jsonl", "train")[1:][::-1]
    said = [(row.input, row.teacher_label, row.rationale) for row in before]
    assert [(row.input, row.teacher_label, row.rationale) for row in after] == said
    assert json.loads((tmp_path / "s" / "store.json").read_text())["schema"] == 2


def test_identical_rows_are_asked_and_paid_for_once(tickets, tmp_path, capsys):
    rows = _write(tmp_path / "r.jsonl", tickets[:5] * 4)
    with scripted(lambda request, before: good(n=request.get("n", 1))) as (endpoint, url):
        said = _ask(capsys, url, rows, tmp_path)
        assert len(endpoint.requests) == said["requests"] == said["asked"] == 5
        assert (said["rows"], said["answered"], said["written"]) == (20, 20, 20)
        assert said["stored_tokens"] == {"in": 500, "out": 50}
        # A further sample is another question.
        more = _ask(capsys, url, rows, tmp_path, "--samples=3", "--temperature=0.5")
        assert more["requests"] == 5 and endpoint.requests[-1]["n"] == 3


def test_identical_rows_under_way_at_once_are_one_request(serve, run_job, tickets, tmp_path):
    same = [dataclasses.replace(tickets[0], id=str(number)) for number in range(30)]
    with serve(latency=0.05) as (endpoint, url):
        job = run_job(url, [*tickets[1:25], *same], tmp_path / "s")
    assert endpoint.counts["answered"] == 25 and len(job.records) == 25


def test_answers_that_an_earlier_version_paid_twice_stay_with_their_rows(
    serve, run_job, tickets, tmp_path, capsys
):
    """Two equal rows with different answers: neither is lost, each row keeps its own."""
    rows = [dataclasses.replace(tickets[0], id=name, label=None) for name in ("a", "b")]
    with serve() as (_, url):
        run_job(url, rows[:1], tmp_path / "new")
    store = _positional(tmp_path / "new", tmp_path, "s")
    line = json.loads((store / "shard-00000.jsonl").read_text())
    other = line | {
        "key": position_key("b", line["digest"], 0),
        "id": "b",
        "completion": "Another reason.\nAnswer: refuse",
    }
    with (store / "shard-00000.jsonl").open("a") as file:
        file.write(json.dumps(other) + "\n")
    with Store(store) as opened:
        kept = [opened.get(opened.key_for(row.id, line["digest"], 0)) for row in rows]
        assert kept == [line, other] and [*opened.records()] == kept
        assert opened.get(key_of(line["digest"], 0)) in kept
        assert opened.get(opened.key_for("c", line["digest"], 0)) in kept
    with Store(store) as opened:  # of schema 2 by now
        assert [opened.get(opened.key_for(row.id, line["digest"], 0)) for row in rows] == kept


@pytest.mark.parametrize("finish", ["content_filter", "error"])
def test_what_an_earlier_version_took_for_an_answer_can_be_asked_again(
    serve, run_job, tickets, tmp_path, finish
):
    with serve() as (_, url):
        run_job(url, tickets[:3], tmp_path / "new")
    store = _positional(tmp_path / "new", tmp_path, "s")
    shard = store / "shard-00000.jsonl"
    lines = [json.loads(line) for line in shard.read_text().splitlines()]
    lines[1] |= {"completion": "", "finish": finish}
    shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Store(store, read_only=True) as opened:
        reason = {"content_filter": "filtered", "error": "server_error"}[finish]
        failed = [record for record in opened.records() if not record["ok"]]
        assert [(record["id"], record["failure"]) for record in failed] == [
            (lines[1]["id"], reason)
        ]
    with serve() as (endpoint, url):
        run_job(url, tickets[:3], store)
        assert not endpoint.counts
        job = run_job(url, tickets[:3], store, retry_failed=True)
        assert endpoint.counts["answered"] == 1 and sum(r["ok"] for r in job.records) == 3


def test_results_of_a_batch_that_an_earlier_version_wrote_are_taken(tickets, tmp_path, capsys):
    """Its lines name the key with the row's id."""
    rows = _write(tmp_path / "r.jsonl", tickets[:4])
    argv = [f"--input={rows}", f"--store={tmp_path / 's'}", f"--output={tmp_path / 'o.jsonl'}"]
    assert cli.main([*ASK, *argv, f"--batch_write={tmp_path / 'b.jsonl'}"]) == 0
    written = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    capsys.readouterr()
    with scripted(lambda request, before: good()) as (_, url):
        _ask(capsys, url, rows, tmp_path / "other")
    with Store(tmp_path / "other" / "s") as store:
        digests = {record["id"]: record["digest"] for record in store.records()}
    results = []
    for number, line in enumerate(written):
        row_id = f"r/train/{number}"
        assert line["custom_id"] == f"{key_of(digests[row_id], 0)}-1"
        body = json.loads(good().partition(b"\r\n\r\n")[2])
        key = position_key(row_id, digests[row_id], 0)
        response = {"status_code": 200, "body": body}
        results.append({"custom_id": f"{key}-1", "response": response, "error": None})
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
    capsys.readouterr()
    assert cli.main([*ASK, *argv, f"--batch_read={tmp_path / 'results.jsonl'}"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"]["stored"] == 4


def test_ids_of_all_kinds_are_read_from_records(tmp_path, tickets):
    """The scan finds the request behind any id that JSON can hold."""
    digest = "0123456789abcdef" * 2
    ids = ['a "b" \\', "\ud800", "é\n", '", "digest": "x', ""]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "store.json").write_text('{"schema": 1}')
    with (tmp_path / "s" / "shard-00000.jsonl").open("w") as file:
        for sample, row_id in enumerate(ids):
            record = {
                "key": position_key(row_id, digest, sample),
                "ok": True,
                "id": row_id,
                "digest": digest,
                "sample": sample,
                "completion": str(sample),
            }
            file.write(json.dumps(record) + "\n")
    with Store(tmp_path / "s") as store:
        found = [store.get(key_of(digest, sample)) for sample in range(len(ids))]
        assert [record["id"] for record in found] == ids
        assert len([*store.records()]) == len(ids)
