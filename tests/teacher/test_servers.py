"""What servers do besides answering: each kind of it ends as it should, stored and shown."""

from __future__ import annotations

import email.utils
import json
import socket
import time

import pytest
from scripted_server import (
    GOOD,
    MODEL,
    answer,
    chunked,
    error,
    good,
    reply,
    scripted,
    streamed,
    ticket_of,
    zipped,
)

from distill import cli
from distill.errors import UserError
from distill.teacher.endpoint.client import check_url
from distill.teacher.endpoint.limits import retry_after
from distill.teacher.endpoint.outcomes import Reason

ASK = ["annotate", "--prompt=tickets", f"--model={MODEL}", "--json", "--backoff_seconds=.01"]


def _ask(capsys, url, rows, folder, *more):
    argv = [f"--input={rows}", f"--base_url={url}", f"--output={folder / 'o.jsonl'}"]
    code = cli.main([*ASK, *argv, *more])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err


def _third(tickets, strange):
    """A script: `strange` for the third ticket, good answers for the others."""

    def respond(request, before):
        return strange if ticket_of(request) == tickets[2].input.strip() else good()

    return respond


# A row that its server refuses by itself: the response, and why the row then has no answer.
ROWS = {
    "moderated 403": (error(403, "Your input was flagged", metadata={"flagged_input": "x"}), "f"),
    "filter 400": (error(400, "The response was filtered", code="content_filter"), "f"),
    "filter 500": (error(500, "Blocked by the safety system"), "f"),
    "inspection 400": (error(400, "Input data may contain...", code="data_inspection_failed"), "f"),
    "filtered answer": (good(None, finish="content_filter"), "f"),
    "filter in a 200": (reply(200, {"error": {"message": "content policy violation"}}), "f"),
    "safety finish": (good("", finish="SAFETY"), "f"),
    "plain 403": (error(403, "Forbidden"), Reason.FORBIDDEN),
    "key 403": (error(403, "Your API key has no access"), Reason.FORBIDDEN),
    "413": (error(413, "Payload too large"), Reason.TOO_LARGE),
    "context": (error(400, "maximum context length is 4096 tokens"), Reason.TOO_LARGE),
    "lasting 404": (error(404, "not found"), Reason.NOT_FOUND),
    "400": (error(400, "temperature of the text is unknown"), Reason.BAD_REQUEST),
    "error finish": (good(None, finish="error"), Reason.SERVER_ERROR),
    "error in a 200": (reply(200, {"error": {"message": "no capacity"}}), Reason.ERROR_REPLY),
    "502 in a 200": (reply(200, {"error": {"message": "m", "code": 502}}), Reason.SERVER_ERROR),
    "html 502": (reply(502, "<html><title>Bad gateway</title></html>"), Reason.SERVER_ERROR),
    "html 200": (reply(200, "<!DOCTYPE html><h1>Log in</h1>"), Reason.BAD_JSON),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_is_refused_ends_alone(tickets, run_job, tmp_path, case):
    response, reason = ROWS[case]
    reason = Reason.FILTERED if reason == "f" else reason
    with scripted(_third(tickets, response)) as (endpoint, url):
        job = run_job(url, tickets[:6], tmp_path / "s", max_attempts=3)
        retried = reason in ("server_error", "error_reply", "not_found", "bad_json")
        assert endpoint.asked[tickets[2].input.strip()] == (3 if retried else 1)
        (failed,) = [record for record in job.records if not record["ok"]]
        assert (failed["id"], failed["failure"]) == (tickets[2].id, reason)
        assert len(job.records) == 6 and job.stats.answered == 5
        asked = len(endpoint.requests)
        run_job(url, tickets[:6], tmp_path / "s")
        assert len(endpoint.requests) == asked, "a failed row is asked again only when told to"


def test_the_row_that_is_refused_is_named(tickets, run_job, tmp_path, capsys):
    with scripted(_third(tickets, ROWS["plain 403"][0])) as (_, url):
        run_job(url, tickets[:6], tmp_path / "s", progress_seconds=60)
    assert (
        f"annotate: row {tickets[2].id} failed: forbidden: HTTP 403: Forbidden"
        in capsys.readouterr().err
    )


def test_a_404_that_passes_is_retried(tickets, run_job, tmp_path):
    def respond(request, before):
        again = before or ticket_of(request) != tickets[2].input.strip()
        return good() if again else error(404, "not found")

    with scripted(respond) as (_, url):
        job = run_job(url, tickets[:6], tmp_path / "s")
    assert all(record["ok"] for record in job.records) and job.stats.retries["not_found"] == 1


def test_a_moderated_first_row_does_not_end_the_job(tickets, run_job, tmp_path):
    """Nothing was answered yet, so the key may be refused: the next rows tell."""
    refused = {row.input.strip() for row in tickets[:2]}

    def respond(request, before):
        return error(403, "Forbidden") if ticket_of(request) in refused else good()

    with scripted(respond) as (endpoint, url):
        job = run_job(url, tickets[:6], tmp_path / "s")
        assert len(endpoint.requests) == 6
    failed = {record["id"]: record["failure"] for record in job.records if not record["ok"]}
    assert failed == {row.id: "forbidden" for row in tickets[:2]}


@pytest.mark.parametrize("count", [1, 60])
def test_403_for_all_rows_is_about_the_key(tickets, run_job, tmp_path, count):
    with scripted(lambda request, before: error(403, "Forbidden")) as (endpoint, url):
        with pytest.raises(UserError, match=r"refuses the key or the rows \(HTTP 403: Forbidden"):
            run_job(url, tickets[:count], tmp_path / "s")
        assert len(endpoint.requests) <= 3 + 3
    with scripted(lambda request, before: good()) as (endpoint, url):  # no row was given up
        assert len(run_job(url, tickets[:count], tmp_path / "s").records) == count


# A server that answers nothing: its response, how many requests that takes, what is said.
FATAL = {
    "key 403": (error(403, "Invalid API key"), 1, "rejects the key"),
    "402": (error(402, "Insufficient balance"), 1, "the quota is used up"),
    "path": (
        reply(404, "404 page not found"),
        1,
        "has no such model or path (HTTP 404: 404 page not found); such addresses usually end in "
        "/v1: try --base_url=",
    ),
    "path in a 200": (
        reply(200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
        1,
        "Unexpected endpoint or method. (POST /chat/completions)); such addresses usually end",
    ),
    "model in a 200": (reply(200, {"error": "model 'm' not found"}), 1, "no such model or path"),
    "error in a 200": (
        reply(200, {"error": {"message": "The engine is asleep", "type": "oops"}}),
        4,
        "answers with an error (HTTP 200 with an error: The engine is asleep)",
    ),
    "page": (
        reply(200, "<!doctype html><html><title>My  GUI &amp; more</title>"),
        4,
        "answers with an HTML page: My GUI & more; such addresses usually end in /v1",
    ),
    "temperature": (
        error(400, "Unsupported value: 'temperature' does not support 0.0", param="temperature"),
        1,
        "add --no_temperature",
    ),
    "one temperature": (
        error(400, "invalid temperature: only 1 is allowed for this model"),
        1,
        "add --no_temperature",
    ),
    "max_tokens": (
        error(400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
        1,
        "add --extra='{\"max_completion_tokens\": 600}'",
    ),
    "stop": (error(400, "Unsupported parameter: 'stop'", code="x"), 1, "add --no_stop"),
    "redirect": (
        reply(301, "", {"Location": "https://example.com/v1/chat/completions"}),
        1,
        "redirects to https://example.com/v1/chat/completions; set --base_url=https://example.com",
    ),
    "long wait": (
        reply(
            429,
            "",
            {
                "Date": "Thu, 26 Nov 2026 10:00:00 GMT",
                "Retry-After": "Thu, 26 Nov 2026 12:00:00 GMT",
            },
        ),
        1,
        "asks to wait 7,200 s",
    ),
}


HINTED = ("path", "path in a 200", "model in a 200", "error in a 200", "page")


@pytest.mark.parametrize("case", FATAL)
def test_a_server_that_answers_nothing_ends_the_job_at_once(
    rows_file, tmp_path, capsys, monkeypatch, case
):
    response, requests, message = FATAL[case]
    with scripted(lambda request, before: response) as (endpoint, url):
        base = url.removesuffix("/v1")
        code, _, said = _ask(capsys, base, rows_file, tmp_path)
        assert code == 2 and len(endpoint.requests) == requests
        assert message in said and not (tmp_path / "o.jsonl").exists()
        assert (f"try --base_url={url}" in said) == (case in HINTED)
    with scripted(lambda request, before: good()) as (endpoint, url):  # no row was given up
        assert _ask(capsys, url, rows_file, tmp_path)[1]["answered"] == 40


def test_an_address_with_v1_gets_no_hint(rows_file, tmp_path, capsys):
    with scripted(lambda request, before: reply(404, "")) as (_, url):
        code, _, said = _ask(capsys, url, rows_file, tmp_path)
    assert code == 2 and "HTTP 404" in said and "/v1: try" not in said


def test_where_nobody_listens_the_job_ends_within_seconds(rows_file, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        began = time.monotonic()
        code, _, said = _ask(capsys, url, rows_file, tmp_path, "--backoff_seconds=.2")
    assert code == 2 and time.monotonic() - began < 20
    assert f"nobody answers at {url} (ConnectError(" in said and "start the server" in said


def test_a_connection_that_never_stands_is_given_up_like_one_that_is_refused(
    tickets, run_job, tmp_path, monkeypatch
):
    import openai

    class ConnectTimeout(Exception):
        """As the HTTP library of any version of the client names it."""

    async def post(*_, **__):
        raise openai.APITimeoutError(request=None) from ConnectTimeout()

    monkeypatch.setattr(openai.AsyncOpenAI, "post", post)
    with pytest.raises(UserError, match=r"nobody answers at http://h/v1 \(ConnectTimeout"):
        run_job("http://h/v1", tickets, tmp_path / "s")


def test_a_server_that_goes_away_meanwhile_is_waited_for(tickets, run_job, tmp_path):
    """Refused connections end the job only if nothing was answered before."""

    def respond(request, before):
        return good() if before or len(endpoint.requests) < 10 else None

    with scripted(respond) as (endpoint, url):
        job = run_job(url, tickets[:20], tmp_path / "s")
    assert job.stats.answered == 20 and job.stats.retries["connection"] == 11


@pytest.mark.parametrize("form", ["json", "gzip", "chunked", "308", "stream nobody asked for"])
def test_forms_of_a_response(tickets, run_job, tmp_path, form):
    forms = {
        "json": good(),
        "gzip": zipped(answer()),
        "chunked": chunked(answer()),
        "stream nobody asked for": streamed(GOOD),
    }

    def respond(request, before):
        if form == "308":
            moved = reply(308, "", {"Location": f"{url}/completions"})
            return good() if endpoint.paths[-1] == "/v1/completions" else moved
        return forms[form]

    with scripted(respond) as (endpoint, url):
        job = run_job(url, tickets[:3], tmp_path / "s")
    assert [record["completion"] for record in job.records] == [GOOD] * 3
    assert job.stats.tokens_out == 30 and not job.stats.estimated


class TestSeveralSamples:
    """A server that refuses n > 1 is asked n times."""

    @pytest.mark.parametrize("status", [400, 422])
    def test_it_is_found_out_once_and_said_once(
        self, tickets, run_job, tmp_path, sampling, capsys, status
    ):
        def respond(request, before):
            if request.get("n", 1) > 1:
                return error(status, "n must be 1 for this model")
            return good(f"seed {request['seed']} . {GOOD}")

        with scripted(respond) as (endpoint, url):
            job = run_job(
                url,
                tickets[:30],
                tmp_path / "s",
                samples=3,
                asks=sampling(temperature=0.7),
                progress_seconds=60,
            )
            refused = [request for request in endpoint.requests if request.get("n", 1) > 1]
            assert len(refused) == 1 and len(endpoint.requests) == 1 + 3 * 30
        assert {(r["id"], r["sample"]) for r in job.records if r["ok"]} == {
            (row.id, sample) for row in tickets[:30] for sample in range(3)
        }
        assert all(r["completion"] == f"seed {1 + r['sample']} . {GOOD}" for r in job.records)
        said = capsys.readouterr().err
        assert said.count("the server gives one sample per request") == 1
        assert "n must be 1 for this model" in said

    def test_a_refusal_of_the_row_is_not_one_of_n(self, tickets, run_job, tmp_path, sampling):
        def respond(request, before):
            if ticket_of(request) == tickets[0].input.strip():
                return error(400, "bad characters")
            return good(n=request["n"])

        with scripted(respond) as (endpoint, url):
            job = run_job(
                url, tickets[:5], tmp_path / "s", samples=3, asks=sampling(temperature=0.7)
            )
            assert [r.get("n", 1) for r in endpoint.requests] == [3, 1, 3, 3, 3, 3]
        failed = [r for r in job.records if not r["ok"]]
        assert [(r["id"], r["failure"]) for r in failed] == [(tickets[0].id, "bad_request")] * 3

    def test_samples_end_each_by_itself(self, tickets, run_job, tmp_path, sampling):
        """One is filtered, one broken off and asked for again, one answered."""

        def respond(request, before):
            found = answer(n=request.get("n", 1))
            if not before:
                found["choices"][0] |= {"message": {"content": None}, "finish_reason": "error"}
                empty = {"message": {"content": ""}, "finish_reason": "content_filter"}
                found["choices"][1] |= empty
            return reply(200, found)

        with scripted(respond) as (endpoint, url):
            job = run_job(
                url, tickets[:1], tmp_path / "s", samples=3, asks=sampling(temperature=0.7)
            )
            assert [r.get("n", 1) for r in endpoint.requests] == [3, 1]
        ends = {r["sample"]: r.get("failure", "answered") for r in job.records}
        assert ends == {0: "answered", 1: "filtered", 2: "answered"}
        assert sum(r["usage"]["out"] for r in job.records) == 40 == job.stats.tokens_out


class TestStreams:
    """--stream asks for streamed answers, and puts them together."""

    def test_a_server_that_only_streams(self, rows_file, tmp_path, capsys):
        def respond(request, before):
            if not request.get("stream"):
                return error(400, "stream must be true")
            assert request["stream_options"] == {"include_usage": True}
            return streamed(GOOD)

        with scripted(respond) as (_, url):
            code, _, said = _ask(capsys, url, rows_file, tmp_path)
            assert code == 2 and "(HTTP 400: stream must be true): add --stream" in said
            code, found, _ = _ask(capsys, url, rows_file, tmp_path, "--stream")
        assert code == 0 and found["parsed"] == 40 and found["tokens"]["in"] == 4000

    def test_a_server_that_does_not_know_stream_options(self, tickets, rows_file, tmp_path, capsys):
        def respond(request, before):
            if "stream_options" in request:
                return error(400, "unknown field: stream_options")
            return streamed(GOOD)

        with scripted(respond) as (endpoint, url):
            code, _, _ = _ask(capsys, url, rows_file, tmp_path, "--stream")
            assert code == 0 and len(endpoint.requests) == 41

    def test_streams_that_break_off_are_asked_again(self, tickets, run_job, tmp_path):
        broken = streamed(GOOD, finish=None, done=False)
        event = reply(200, 'data: {"error": {"message": "out of memory"}}\n\n')

        def respond(request, before):
            return [broken, event, streamed(GOOD)][min(before, 2)]

        with scripted(respond) as (_, url):
            job = run_job(url, tickets[:3], tmp_path / "s")
        assert [r["completion"] for r in job.records] == [GOOD] * 3
        assert job.stats.retries == {"bad_json": 3, "error_reply": 3}


def test_no_temperature_is_sent_where_none_is_wanted(rows_file, tmp_path, capsys):
    def respond(request, before):
        return error(400, "no temperature, please") if "temperature" in request else good()

    with scripted(respond) as (_, url):
        code, found, _ = _ask(capsys, url, rows_file, tmp_path, "--no_temperature")
        assert code == 0 and found["parsed"] == 40
        code, _, said = _ask(
            capsys, url, rows_file, tmp_path, "--no_temperature", "--temperature=.5"
        )
    assert code == 2 and "both --temperature and --no_temperature" in said


def test_an_empty_address_is_refused(rows_file, tmp_path, capsys):
    for value in ("", "  "):
        code, _, said = _ask(capsys, value, rows_file, tmp_path)
        assert code == 2 and "got an empty --base_url, expected e.g. http://localhost" in said


def test_an_address_of_the_whole_path_is_refused():
    with pytest.raises(UserError, match=r"before /chat/completions: --base_url=http://h/v1$"):
        check_url("http://h/v1/chat/completions")


def test_dates_of_retry_after_are_read_by_the_clock_of_the_server():
    now = 1_700_000_000
    headers = {
        "date": email.utils.formatdate(now - 3600, usegmt=True),
        "retry-after": email.utils.formatdate(now - 3570, usegmt=True),
    }
    assert retry_after(headers, now=now) == 30
    assert retry_after({"retry-after": headers["retry-after"]}, now=now) == 0
    assert retry_after(headers | {"date": "nonsense"}, now=now) == 0
