"""All that answers and servers do, mixed: each row ends once, with its label or its reason."""

from __future__ import annotations

import collections
from collections.abc import Callable

import pytest
from scripted_server import MODEL, answer, chunked, error, good, reply, scripted, streamed, zipped
from scripted_server import ticket_of as ticket_of_request

from distill.common.hashing import uniform
from distill.teacher import prompts
from distill.teacher.results.aggregate import parse_record
from distill.tickets import generator, server

# What the server does about a ticket: the response to its first request, and to later ones; and
# how the row ends: "label", "no label", or the reason why it has no answer.
Play = tuple[Callable[[str], bytes | None], Callable[[str], bytes | None], str]


def _always(make: Callable[[str], bytes | None], end: str) -> Play:
    return make, make, end


def _once(make: Callable[[str], bytes | None]) -> Play:
    return make, good, "label"


def _date(text: str) -> bytes:
    headers = {
        "Date": "Thu, 26 Nov 2026 10:00:00 GMT",
        "Retry-After": "Thu, 26 Nov 2026 10:00:00 GMT",
    }
    return reply(429, {"error": {"message": "slow down"}}, headers)


PLAYS: dict[str, Play] = {
    "good": _always(good, "label"),
    "dated name": _always(lambda text: good(text, model=f"{MODEL}-2026-01-02"), "label"),
    "gzip": _always(lambda text: zipped(answer(text)), "label"),
    "chunked": _always(lambda text: chunked(answer(text)), "label"),
    "streamed": _always(streamed, "label"),
    "parts": _always(lambda text: reply(200, _parts(text)), "label"),
    "cut off after the answer": _always(lambda text: good(text, finish="length"), "label"),
    "no label": _always(lambda text: good("I cannot tell from this."), "no label"),
    "cut off": _always(lambda text: good("The desk has to", finish="length"), "no label"),
    "blank": _always(lambda text: good("  "), "empty_answer"),
    "thoughts": _always(lambda text: good(f"<think>Answer: refuse</think>\n\n{text}"), "label"),
    "closing tag": _always(lambda text: good(f"Answer: refuse</think>\n\n{text}"), "label"),
    "empty tags": _always(lambda text: good(f"<think>\n\n</think>\n\n{text}"), "label"),
    "reasoning field": _always(
        lambda text: good(text, reasoning_content="So\nAnswer: refuse"), "label"
    ),
    "unfinished thought": _always(
        lambda text: good("<think>Answer: refuse", finish="length"), "thought_too_long"
    ),
    "thought alone": _always(
        lambda text: good(None, finish="length", reasoning="Answer: refuse"), "thought_too_long"
    ),
    "answer as reasoning": _always(lambda text: good(None, reasoning_content=text), "empty_answer"),
    "refusal": _always(lambda text: good(None, refusal="I cannot help with it."), "filtered"),
    "bold": _always(lambda text: good(_in_form(text, "{}\n\n**Answer:** {}")), "label"),
    "heading": _always(lambda text: good(_in_form(text, "{}\n\n### Answer\n{}.")), "label"),
    "JSON": _always(
        lambda text: good(_in_form(text, '{{"rationale": "{}", "answer": "{}"}}')), "label"
    ),
    "token": _always(lambda text: good(f"{text}<|im_end|>"), "label"),
    "moderated 403": _always(
        lambda text: error(403, "flagged", metadata={"flagged_input": "..."}), "filtered"
    ),
    "filter 400": _always(lambda text: error(400, "no", code="content_filter"), "filtered"),
    "filtered": _always(lambda text: good(None, finish="content_filter"), "filtered"),
    "forbidden": _always(lambda text: error(403, "Forbidden"), "forbidden"),
    "413": _always(lambda text: error(413, "too large"), "too_large"),
    "context": _always(lambda text: error(400, "maximum context length"), "too_large"),
    "bad request": _always(lambda text: error(400, "bad characters"), "bad_request"),
    "lasting 404": _always(lambda text: error(404, "not found"), "not_found"),
    "passing 404": _once(lambda text: error(404, "not found")),
    "lasting error": _always(lambda text: good(None, finish="error"), "server_error"),
    "passing error": _once(lambda text: good(None, finish="error")),
    "lasting error in a 200": _always(
        lambda text: reply(200, {"error": {"message": "no capacity"}}), "error_reply"
    ),
    "passing error in a 200": _once(lambda text: reply(200, {"error": "no capacity"})),
    "html": _once(lambda text: reply(502, "<html><title>Bad gateway</title></html>")),
    "html with 200": _once(lambda text: reply(200, "<html><title>Log in</title></html>")),
    "date": _once(_date),
    "dropped": _once(lambda text: None),
    "broken stream": _once(lambda text: streamed(text, finish=None, done=False)),
    "no choices": _once(lambda text: reply(200, answer(text) | {"choices": []})),
    "broken JSON": _once(lambda text: reply(200, '{"choices": [{"mess')),
    "another model": _once(lambda text: good(text, model="another")),
}
WEIGHTS = {"good": 40} | dict.fromkeys(["dated name", "gzip", "chunked", "streamed", "parts"], 4)


def _in_form(text: str, form: str) -> str:
    """An answer of the simulated teacher in another form."""
    return form.format(*text.split("\nAnswer: "))


def _parts(text: str) -> dict:
    found = answer(text)
    half = len(text) // 2
    parts = [{"type": "text", "text": each} for each in (text[:half], text[half:])]
    found["choices"][0]["message"]["content"] = parts
    return found


def _kind(ticket: str, first: set[str]) -> str:
    """What happens to a ticket; the first of all are good, as no job survives a bad start."""
    if ticket in first:
        return "good"
    u = uniform("mixed", ticket) * sum(WEIGHTS.get(kind, 1) for kind in PLAYS)
    for kind in PLAYS:
        u -= WEIGHTS.get(kind, 1)
        if u < 0:
            return kind
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_each_row_ends_once_with_its_label_or_its_reason(run_job, tmp_path, count):
    rows = generator.generate("natural", count, 0, "train")
    first = {row.input.strip() for row in rows[:4]}
    teacher = server.tickets_teacher()
    kinds = {row.id: _kind(row.input.strip(), first) for row in rows}

    def respond(request, before):
        ticket = ticket_of_request(request)
        opening, later, _ = PLAYS[_kind(ticket, first)]
        return (later if before else opening)(teacher(f"Ticket: {ticket}", 0))

    with scripted(respond) as (endpoint, url):
        job = run_job(url, rows, tmp_path / "s", max_attempts=3, max_failures=1000)
        asked = endpoint.asked
        requests = len(endpoint.requests)
        run_job(url, rows, tmp_path / "s", max_failures=1000)
        assert len(endpoint.requests) == requests, "all rows had ended"
    assert collections.Counter(record["id"] for record in job.records) == {
        row.id: 1 for row in rows
    }
    lines = sum(shard.read_bytes().count(b"\n") for shard in (tmp_path / "s").glob("shard-*"))
    assert lines == count
    prompt = prompts.load_prompt("tickets")
    by_id = {row.id: row for row in rows}
    ends = collections.Counter()
    for record in job.records:
        row, kind = by_id[record["id"]], kinds[record["id"]]
        said = parse_record(prompt, row, record)
        label = said.label
        end = "label" if label else "no label" if record["ok"] else record["failure"]
        assert end == PLAYS[kind][2], (kind, record)
        assert label in (None, row.label)
        assert not label or f"{said.rationale}\nAnswer: {label}" == teacher(row.input, 0)
        ends[kind] += 1
        retried = PLAYS[kind][0] is not PLAYS[kind][1]
        lasting = end in ("not_found", "server_error", "error_reply")
        assert asked[row.input.strip()] == (3 if lasting else 2 if retried else 1), kind
    assert count < 1000 or set(ends) == set(PLAYS)
    assert len(ends) > 25
