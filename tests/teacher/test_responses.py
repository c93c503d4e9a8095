"""Forms of responses: compressed, streamed, redirected, or with fewer samples than asked for."""

from __future__ import annotations

import json

import pytest
from scripted_server import (
    GOOD,
    answer,
    ask_command,
    chunked,
    error,
    good,
    reply,
    scripted,
    streamed,
    ticket_of,
    zipped,
)


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
            code, _, said = ask_command(capsys, url, rows_file, tmp_path)
            assert code == 2 and "(HTTP 400: stream must be true): add --stream" in said
            code, found, _ = ask_command(capsys, url, rows_file, tmp_path, "--stream")
        assert code == 0 and found["parsed"] == 40 and found["tokens"]["in"] == 4000

    def test_a_server_that_does_not_know_stream_options(self, tickets, rows_file, tmp_path, capsys):
        def respond(request, before):
            if "stream_options" in request:
                return error(400, "unknown field: stream_options")
            return streamed(GOOD)

        with scripted(respond) as (endpoint, url):
            code, _, _ = ask_command(capsys, url, rows_file, tmp_path, "--stream")
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

    @pytest.mark.parametrize(
        ("name", "deltas"),
        [
            ("thinking", [{"thinking": "t"}, {"content": GOOD}]),
            ("details", [{"reasoning_details": [{"text": "t"}]}, {"content": GOOD}]),
            (
                "parts",
                [
                    {"content": [{"type": "thinking", "thinking": [{"text": "t"}]}]},
                    {"content": [{"type": "text", "text": GOOD[:9]}]},
                    {"content": GOOD[9:]},
                ],
            ),
        ],
    )
    def test_thoughts_of_a_stream(self, tickets, run_job, tmp_path, name, deltas):
        with scripted(lambda request, before: _events(*map(_delta, deltas), "[DONE]")) as (_, url):
            job = run_job(url, tickets[:1], tmp_path / "s")
        assert [(r["completion"], r["thoughts"]) for r in job.records] == [(GOOD, "t")]

    def test_what_streams_hold_besides_answers(self, tickets, run_job, tmp_path):
        """A mark of byte order, comments, pings, an event of two lines, usage without choices."""
        whole = json.dumps(_delta({"content": GOOD}))
        middle = whole.index('"choices"')
        said = "\ufeff" + ': PROCESSING\n\nevent: ping\ndata: {"type": "ping"}\n\n'
        said += f"data: {whole[:middle]}\ndata: {whole[middle:]}\n\n"
        said += 'data: {"usage": {"prompt_tokens": 7, "completion_tokens": 2}, "choices": null}\n\n'
        stream = reply(200, said + "data: [DONE]\n\n", {"Content-Type": "text/event-stream"})
        with scripted(lambda request, before: stream) as (_, url):
            job = run_job(url, tickets[:1], tmp_path / "s")
        (record,) = job.records
        assert record["completion"] == GOOD and record["usage"] == {"in": 7, "out": 2}

    @pytest.mark.parametrize("fields", [{"message": "overloaded"}, {"detail": "overloaded"}])
    def test_the_text_of_an_error_event_is_shown(self, tickets, run_job, tmp_path, fields):
        stream = _events(fields)
        with scripted(lambda request, before: stream if not before else good()) as (_, url):
            job = run_job(url, tickets[:1], tmp_path / "s")
        assert job.stats.retries == {"error_reply": 1}


def _delta(delta: dict) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def _events(*events: dict | str) -> bytes:
    """Server-sent events."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in events]
    text = "".join(f"data: {line}\n\n" for line in lines)
    return reply(200, text, {"Content-Type": "text/event-stream"})
