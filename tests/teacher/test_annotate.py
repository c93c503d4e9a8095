"""The job: every row ends exactly once, whatever the endpoint does; nothing is asked twice."""

from __future__ import annotations

import collections
import itertools
import json
import time

import pytest

from distill.errors import UserError
from distill.teacher import prompts
from distill.teacher.prices import Price
from distill.teacher.storage.store import Store
from distill.tickets import server
from distill.tickets import teacher as simulated
from distill.tickets.faults import REASONS, TRANSIENT, FaultPlan


def _ends(job):
    """Each sample's id and number, with how often it is stored."""
    return collections.Counter((r["id"], r["sample"]) for r in job.records)


def _plan(rates=None, always=None):
    return FaultPlan(rates or {}, always or {}, retry_after=0.02, stall_seconds=30)


def test_an_undisturbed_job_asks_once_a_row_and_keeps_what_was_said(
    serve, run_job, tickets, tmp_path
):
    with serve(key="sk-right") as (endpoint, url):
        job = run_job(url, tickets, tmp_path / "s", key="sk-right")
    assert endpoint.counts == {"answered": len(tickets)}
    assert set(_ends(job)) == {(row.id, 0) for row in tickets}
    prompt, said = prompts.load_prompt("tickets"), simulated.annotate(tickets, "natural", 1.0, 0)
    by_id = {r["id"]: r for r in job.records}
    for row, right in zip(tickets, said, strict=True):
        parsed = prompt.parse(row, by_id[row.id]["completion"])
        assert (parsed.label, parsed.rationale) == (right.teacher_label, right.rationale)
    (usage,) = {tuple(sorted(r["usage"])) for r in job.records}
    assert usage == ("in", "out") and all(r["seconds"] > 0 for r in job.records)
    assert job.stats.tokens_in == sum(r["usage"]["in"] for r in job.records)


def test_every_row_ends_once_under_all_faults_at_once(serve, run_job, tickets, tmp_path, sampling):
    plan = _plan(dict.fromkeys(TRANSIENT, 0.04), {"drop": 0.02, "empty_choices": 0.02})
    with serve(plan) as (endpoint, url):
        job = run_job(
            url,
            tickets,
            tmp_path / "s",
            samples=3,
            max_attempts=6,
            timeout=3.0,
            asks=sampling(temperature=0.7),
        )
        assert set(endpoint.counts) >= {*TRANSIENT, "answered"}, "a fault never struck"
        assert "max_tokens=0" not in endpoint.counts
    assert _ends(job) == {(row.id, k): 1 for row in tickets for k in range(3)}
    failed = {r["id"]: r["failure"] for r in job.records if not r["ok"]}
    lasting = {"connection", "empty_choices"}
    assert failed and lasting <= set(failed.values())
    assert job.stats.failed == len(failed) < 30
    assert job.stats.answered + job.stats.failed == len(tickets)


@pytest.mark.parametrize("kind", [kind for kind in REASONS if kind != "wrong_model"])
def test_a_fault_that_lasts_is_the_typed_reason(serve, run_job, tickets, tmp_path, kind):
    rows = tickets[:4]
    with serve(_plan(always={kind: 1.0})) as (endpoint, url):
        job = run_job(
            url, rows, tmp_path / "s", max_attempts=2, timeout=1.0 if kind == "stall" else 60.0
        )
    assert kind == "stall" or endpoint.counts[kind] == 2 * len(rows)
    assert [r["failure"] for r in job.records] == [REASONS[kind]] * len(rows)
    assert job.stats.reasons == {REASONS[kind]: len(rows)}


@pytest.mark.parametrize("kind", ["n_ignored", "no_usage"])
def test_a_server_that_passes_over_n_or_usage_is_put_up_with(
    serve, run_job, tickets, tmp_path, kind, sampling
):
    asks = sampling(temperature=0.7)
    with serve(_plan(always={kind: 1.0})) as (endpoint, url):
        job = run_job(url, tickets[:10], tmp_path / "s", samples=3, asks=asks)
    with serve() as (_, url):
        right = run_job(url, tickets[:10], tmp_path / "t", samples=3, asks=asks)
    assert endpoint.counts[kind] == (30 if kind == "n_ignored" else 10)

    def said(j):
        return {(r["id"], r["sample"]): r["completion"] for r in j.records}

    assert said(job) == said(right) and len(said(job)) == 30
    assert job.stats.estimated == (10 if kind == "no_usage" else 0)
    assert job.stats.tokens_in > 0


@pytest.mark.parametrize(("kind", "message"), [("401", "rejects the key"), ("404", "no such mod")])
def test_a_permanent_error_stops_the_job_at_once(serve, run_job, tickets, tmp_path, kind, message):
    with serve(_plan(always={kind: 1.0})) as (endpoint, url):
        with pytest.raises(UserError, match=message):
            run_job(url, tickets, tmp_path / "s", concurrency=8)
        assert sum(endpoint.counts.values()) <= 8
    with serve() as (endpoint, url):  # nothing was stored as failed
        run_job(url, tickets, tmp_path / "s")
        assert endpoint.counts["answered"] == len(tickets)


def test_rows_that_fail_in_turn_stop_the_job(serve, run_job, tickets, tmp_path):
    with serve(_plan(always={"500": 1.0})) as (endpoint, url):
        with pytest.raises(
            UserError,
            match=r"10 consecutive rows failed.*server_error.*resumes there, and with --retry_fa",
        ):
            run_job(url, tickets, tmp_path / "s", max_attempts=1, max_failures=10, concurrency=2)
        assert endpoint.counts["500"] <= 12


def test_the_first_failure_of_a_kind_is_said_once(serve, run_job, tickets, tmp_path, capsys):
    with serve(_plan({"500": 0.5, "drop": 0.2})) as (_, url):
        job = run_job(url, tickets[:20], tmp_path / "s", progress_seconds=60)
    shown = capsys.readouterr().err
    assert job.stats.retries["server_error"] > 1
    assert shown.count("server_error: HTTP 500: ") == shown.count("annotate: connection: ") == 1
    last = shown.splitlines()[-1]
    assert last.startswith("annotate: 20/20 rows ") and " rows/s, " in last
    assert f"{job.stats.tokens_in:,} tokens in, {job.stats.tokens_out:,} out, " in last
    assert f"{sum(job.stats.retries.values())} retries  ETA 00:00" in last


def test_progress_shows_stored_rows_as_done_and_the_cost(serve, run_job, tickets, tmp_path, capsys):
    with serve(_plan(always={"500": 0.3})) as (_, url):
        run_job(url, tickets[:20], tmp_path / "s", max_attempts=1)
        assert capsys.readouterr().err == ""
        run_job(
            url,
            tickets[:30],
            tmp_path / "s",
            max_attempts=1,
            progress_seconds=60,
            price=Price(10.0, 30.0),
        )
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3 and shown[0].startswith("annotate: server_error: ")
    assert shown[1].startswith("annotate: row returns/train/")
    assert " failed: server_error: HTTP 500" in shown[1]
    assert shown[2].startswith("annotate: 30/30 rows ")
    assert " out, $0.0" in shown[2] and " failed, " in shown[2]


def test_progress_lines_come_as_often_as_told(serve, run_job, tickets, tmp_path, capsys):
    with serve(latency=0.2) as (_, url):
        run_job(url, tickets[:8], tmp_path / "s", progress_seconds=0.3, concurrency=1)
    shown = capsys.readouterr().err.splitlines()
    assert 3 <= len(shown) <= 8 and all(line.startswith("annotate: ") for line in shown)


def test_a_wait_of_hours_stops_the_job(serve, run_job, tickets, tmp_path):
    plan = FaultPlan(always={"429_retry_after": 1.0}, retry_after=7200)
    with serve(plan) as (_, url), pytest.raises(UserError, match="asks to wait 7,200 s"):
        run_job(url, tickets, tmp_path / "s")


def test_retry_after_holds_all_requests_back(serve, run_job, tickets, tmp_path):
    plan = FaultPlan({"429_retry_after": 0.4}, retry_after=0.3)
    with serve(plan) as (endpoint, url):
        seen = []
        endpoint.log = lambda prompt, seed, outcome: seen.append((time.monotonic(), outcome))
        run_job(url, tickets[:6], tmp_path / "s", concurrency=1)
    waits = [
        after - before
        for (before, outcome), (after, _) in itertools.pairwise(seen)
        if outcome == "429_retry_after"
    ]
    assert waits and all(wait > 0.29 for wait in waits)


def test_a_later_run_asks_only_for_what_is_not_stored(serve, run_job, tickets, tmp_path, sampling):
    with serve() as (endpoint, url):
        first = run_job(url, tickets, tmp_path / "s", max_rows=50)
        assert first.stopped == "max_rows" and endpoint.counts["answered"] == 50
        second = run_job(url, tickets, tmp_path / "s")
        assert second.stopped is None and endpoint.counts["answered"] == len(tickets)
        run_job(url, tickets, tmp_path / "s")
        assert endpoint.counts["answered"] == len(tickets)
        # Another setting is another question; another number of samples only adds to it.
        run_job(url, tickets[:5], tmp_path / "s", asks=sampling(temperature=0.5))
        assert endpoint.counts["answered"] == len(tickets) + 5
        run_job(url, tickets[:5], tmp_path / "s", asks=sampling(temperature=0.5), samples=2)
        assert endpoint.counts["answered"] == len(tickets) + 10


def test_failed_rows_are_asked_again_when_told_to(serve, run_job, tickets, tmp_path):
    with serve(_plan(always={"500": 0.3})) as (_, url):
        first = run_job(url, tickets, tmp_path / "s", max_attempts=1)
    failed = first.stats.failed
    assert 10 < failed < 70
    with serve() as (endpoint, url):
        run_job(url, tickets, tmp_path / "s")
        assert not endpoint.counts
        last = run_job(url, tickets, tmp_path / "s", retry_failed=True)
        assert endpoint.counts["answered"] == failed
    assert all(r["ok"] for r in last.records) and len(last.records) == len(tickets)


def test_concurrency_and_the_request_limit_are_kept(serve, run_job, tickets, tmp_path):
    with serve(latency=0.01) as (endpoint, url):
        run_job(url, tickets, tmp_path / "s", concurrency=5)
        assert 2 <= endpoint.max_at_once <= 5
        began = time.monotonic()
        run_job(url, tickets[:31], tmp_path / "t", requests_per_minute=1200)
        assert time.monotonic() - began > 0.5  # 20 at once, then 19.67 a second


def test_the_cost_stays_below_its_bound(serve, run_job, tickets, tmp_path):
    price = Price(10.0, 30.0)  # a row: about 425 tokens in, 12 out, at most 60
    with serve() as (_, url):
        job = run_job(url, tickets, tmp_path / "s", price=price, max_cost=0.2, concurrency=8)
        assert job.stopped == "max_cost"
        assert 0.18 < job.stats.cost <= 0.2
        with pytest.raises(UserError, match="--max_cost needs the price"):
            run_job(url, tickets, tmp_path / "s", max_cost=0.2)
        nothing = run_job(url, tickets, tmp_path / "t", price=price, max_cost=0.0)
        assert nothing.stats.requests == 0


def test_both_bounds_are_kept_at_once(serve, run_job, tickets, tmp_path):
    """Rows that wait for room under the cost count when rows are counted."""
    price = Price(10.0, 30.0)
    with serve(latency=0.05) as (endpoint, url):
        job = run_job(
            url, tickets, tmp_path / "s", price=price, max_cost=0.1, max_rows=17, concurrency=32
        )
    assert job.stopped == "max_rows" and endpoint.counts["answered"] == 17


def test_answers_of_no_use_count_as_paid(serve, run_job, tickets, tmp_path):
    price = Price(10.0, 30.0)
    with serve(_plan(always={"empty_choices": 1.0})) as (endpoint, url):
        job = run_job(url, tickets, tmp_path / "s", price=price, max_cost=0.05, max_attempts=20)
    assert job.stopped == "max_cost" and 0.03 < job.stats.cost <= 0.05
    assert endpoint.counts["empty_choices"] <= 11 and not job.records  # $.0046 each


def test_when_a_job_ends_nobody_waits_any_longer(serve, run_job, tickets, tmp_path):
    began = time.monotonic()
    plan = FaultPlan(always={"429_retry_after": 0.5, "401": 0.5}, retry_after=500)
    with serve(plan) as (_, url), pytest.raises(UserError, match="rejects the key"):
        run_job(url, tickets, tmp_path / "s", concurrency=8, backoff_base=300)
    assert time.monotonic() - began < 30


def test_a_store_that_fails_ends_the_job_with_its_reason(
    serve, run_job, tickets, tmp_path, monkeypatch
):
    append, count = Store.append, itertools.count()

    def full(self, record):
        if next(count) >= 5:
            raise UserError("no room")
        append(self, record)

    monkeypatch.setattr(Store, "append", full)
    with serve() as (endpoint, url), pytest.raises(UserError, match=r"no room\. 5 rows of this"):
        run_job(url, tickets, tmp_path / "s", concurrency=4)
    assert endpoint.counts["answered"] <= 5 + 4


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"extra": '{"max_tokens": 0}'},
        {"extra": '{"max_completion_tokens": 0}'},
    ],
)
def test_no_request_may_ask_for_zero_tokens(changes, sampling):
    with pytest.raises(UserError, match="expected at least 1: some servers"):
        sampling(**changes)


def test_the_newer_name_of_the_bound_replaces_the_older(tickets, sampling):
    asks = sampling(extra='{"max_completion_tokens": 900, "reasoning_effort": "low"}')
    body = asks.body(prompts.load_prompt("tickets"), tickets[0], 1, 0)
    assert "max_tokens" not in body and body["max_completion_tokens"] == 900
    assert asks.longest == 900 and "n" not in body


def _escaping(status, content, headers=None):
    r"""`server.http` with the first letter of every key as \u0073."""
    body = json.dumps(content).replace("sk-", "\\u0073k-").encode()
    return server._head(status, len(body), headers) + body


def test_a_key_that_the_server_repeats_is_nowhere(serve, run_job, tickets, tmp_path, monkeypatch):
    key = "sk-very-secret-0123456789"
    with serve(key="sk-another") as (_, url), pytest.raises(UserError) as caught:
        run_job(url, tickets, tmp_path / "s", key=key)
    assert "***" in str(caught.value) and key not in repr(caught.value)
    with serve(respond=lambda prompt, draw: f"Bearer {key}\nAnswer: refuse") as (_, url):
        job = run_job(url, tickets[:3], tmp_path / "s", key=key)
    assert job.records[0]["completion"] == "Bearer ***\nAnswer: refuse"
    monkeypatch.setattr(server, "http", _escaping)
    with serve(respond=lambda prompt, draw: f"Bearer {key}\nAnswer: refuse") as (_, url):
        job = run_job(url, tickets[:3], tmp_path / "s2", key=key)
    assert job.records[0]["completion"] == "Bearer ***\nAnswer: refuse"
    with serve(respond=lambda prompt, draw: "EMPTY.\nAnswer: refuse") as (_, url):
        kept = run_job(url, tickets[:1], tmp_path / "t", key="EMPTY")
    assert kept.records[0]["completion"] == "EMPTY.\nAnswer: refuse"
    assert key not in repr(vars(job)) and key not in repr(job.client)
    for path in (tmp_path / "s").iterdir():
        assert key.encode() not in path.read_bytes()
