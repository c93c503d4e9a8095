"""What servers do besides answering: each kind of it ends as it should, stored and shown."""

from __future__ import annotations

import email.utils
import socket
import time

import pytest
from scripted_server import ask_command, error, gemini_quota, good, reply, scripted, ticket_of

from distill.errors import UserError
from distill.teacher.endpoint.client import check_url
from distill.teacher.endpoint.limits import retry_after
from distill.teacher.endpoint.outcomes import Reason


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
    "context code": (error(400, "Too much.", code="context_length_exceeded"), Reason.TOO_LARGE),
    "context size": (error(400, "exceeds the available context size"), Reason.TOO_LARGE),
    "token count": (error(400, "input token count (9) exceeds the maximum"), Reason.TOO_LARGE),
    "model 400": (error(400, "model 'm' not found"), Reason.NOT_FOUND),
    "key 400": (error(400, "API key not valid"), Reason.BAD_REQUEST),
    "quota 400": (error(400, "'My credit balance is too low' is not text"), Reason.BAD_REQUEST),
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


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("plain 403", "forbidden: HTTP 403: Forbidden"),
        ("lasting 404", "not_found: HTTP 404: not found"),  # after it was retried
    ],
)
def test_the_row_that_is_refused_is_named(tickets, run_job, tmp_path, capsys, case, message):
    with scripted(_third(tickets, ROWS[case][0])) as (_, url):
        run_job(url, tickets[:6], tmp_path / "s", progress_seconds=60, max_attempts=2)
    assert f"annotate: row {tickets[2].id} failed: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "response",
    [
        gemini_quota("GenerateContentInputTokensPerModelPerMinute-FreeTier"),
        error(429, "You exceeded your current quota. Please retry in 0.1s."),
        error(429, "Rate limit reached on requests per day (RPD). Please try again in 8.64s."),
    ],
)
def test_limits_that_pass_soon_are_retried(tickets, run_job, tmp_path, response):
    with scripted(lambda request, before: good() if before else response) as (_, url):
        job = run_job(url, tickets[:3], tmp_path / "s")
    assert job.stats.answered == 3 and job.stats.retries["rate_limited"] == 3


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


def test_400_for_all_rows_is_about_the_requests(tickets, run_job, tmp_path):
    message = "System role not supported"
    with scripted(lambda request, before: error(400, message)) as (endpoint, url):
        with pytest.raises(UserError, match=rf"refuses the requests \(HTTP 400: {message}\)"):
            run_job(url, tickets[:60], tmp_path / "s")
        assert 20 <= len(endpoint.requests) <= 23
    with scripted(lambda request, before: good()) as (endpoint, url):  # no row was given up
        assert len(run_job(url, tickets[:60], tmp_path / "s").records) == 60


def test_a_key_that_is_revoked_meanwhile_ends_the_job(tickets, run_job, tmp_path):
    def respond(request, before):
        return good() if len(endpoint.requests) <= 30 else error(401, "revoked")

    with scripted(respond) as (endpoint, url):
        with pytest.raises(UserError, match=r"rejects the key \(HTTP 401.*30 rows of this run"):
            run_job(url, tickets[:60], tmp_path / "s", concurrency=4)
        assert len(endpoint.requests) <= 34
    with scripted(lambda request, before: good()) as (endpoint, url):
        assert len(run_job(url, tickets[:60], tmp_path / "s").records) == 60
        assert len(endpoint.requests) == 30


# A server that answers nothing: its response, how many requests that takes, what is said.
FATAL = {
    "key 403": (error(403, "Invalid API key"), 1, "rejects the key"),
    "402": (error(402, "Insufficient balance"), 1, "the quota is used up"),
    "quota 429": (
        error(429, "You exceeded your quota", code="insufficient_quota"),
        1,
        "the quota is used up",
    ),
    "quota per day": (
        gemini_quota("GenerateRequestsPerMinutePerProject", "GenerateRequestsPerDayPerProject"),
        1,
        "the quota is used up (HTTP 429: You exceeded your current quota, please",
    ),
    "quota without its time": (gemini_quota(), 1, "the quota is used up"),
    "credit 429": (error(429, "Your credit balance is too low"), 1, "the quota is used up"),
    "credit 400": (error(400, "Your credit balance is too low"), 1, "the quota is used up"),
    "billing 403": (error(403, "no", code="billing_hard_limit_reached"), 1, "quota is used up"),
    "key 400": (error(400, "API key not valid. Pass a valid API key."), 1, "rejects the key"),
    "model 400": (error(400, "m is not a valid model ID"), 1, "no such model or path"),
    "model code": (error(400, "no", code="model_not_found"), 1, "no such model or path"),
    "stops": (
        error(400, "Invalid 'stop': array too long. Expected at most 1", param="stop"),
        1,
        "add --no_stop",
    ),
    "both": (
        error(400, "`temperature` and `top_p` cannot both be specified"),
        1,
        "add --no_temperature",
    ),
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


HINTED = (
    *("path", "path in a 200", "model in a 200", "error in a 200", "page"),
    *("model 400", "model code"),
)


@pytest.mark.parametrize("case", FATAL)
def test_a_server_that_answers_nothing_ends_the_job_at_once(
    rows_file, tmp_path, capsys, monkeypatch, case
):
    response, requests, message = FATAL[case]
    with scripted(lambda request, before: response) as (endpoint, url):
        base = url.removesuffix("/v1")
        code, _, said = ask_command(capsys, base, rows_file, tmp_path)
        assert code == 2 and len(endpoint.requests) == requests
        assert message in said and not (tmp_path / "o.jsonl").exists()
        assert (f"try --base_url={url}" in said) == (case in HINTED)
    with scripted(lambda request, before: good()) as (endpoint, url):  # no row was given up
        assert ask_command(capsys, url, rows_file, tmp_path)[1]["answered"] == 40


def test_an_address_with_v1_gets_no_hint(rows_file, tmp_path, capsys):
    with scripted(lambda request, before: reply(404, "")) as (_, url):
        code, _, said = ask_command(capsys, url, rows_file, tmp_path)
    assert code == 2 and "HTTP 404" in said and "/v1: try" not in said


def test_where_nobody_listens_the_job_ends_within_seconds(rows_file, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        began = time.monotonic()
        code, _, said = ask_command(capsys, url, rows_file, tmp_path, "--backoff_seconds=.2")
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


def test_no_temperature_is_sent_where_none_is_wanted(rows_file, tmp_path, capsys):
    def respond(request, before):
        return error(400, "no temperature, please") if "temperature" in request else good()

    with scripted(respond) as (_, url):
        code, found, _ = ask_command(capsys, url, rows_file, tmp_path, "--no_temperature")
        assert code == 0 and found["parsed"] == 40
        code, _, said = ask_command(
            capsys, url, rows_file, tmp_path, "--no_temperature", "--temperature=.5"
        )
    assert code == 2 and "both --temperature and --no_temperature" in said


def test_an_empty_address_is_refused(rows_file, tmp_path, capsys):
    for value in ("", "  "):
        code, _, said = ask_command(capsys, value, rows_file, tmp_path)
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
