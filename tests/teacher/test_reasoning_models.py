"""Jobs against models that think first: what is sent, stored, paid, read and said."""

from __future__ import annotations

import json

import pytest
from scripted_server import MODEL, answer, good, reply, scripted, ticket_of

from distill import cli
from distill.data.examples import read_jsonl
from distill.teacher import prompts
from distill.teacher.sampling import Sampling
from distill.teacher.storage.store import Store
from distill.tickets import server

ASK = ["annotate", "--prompt=tickets", f"--model={MODEL}", "--json", "--backoff_seconds=.01"]
THOUGHT = "The desk wants a reason.\n\nTicket: it is broken.\nAnswer: refuse"
TEACHER = server.tickets_teacher()


def _ask(capsys, url, rows, folder, *more):
    argv = [f"--input={rows}", f"--base_url={url}", f"--output={folder / 'o.jsonl'}"]
    code = cli.main([*ASK, *argv, *more])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err


def _records(folder):
    with Store(folder / "o.store", read_only=True) as store:
        return list(store.records())


def _thinks(content=True, budget=10_000):
    """A model that thinks, on a server that applies stops (to thoughts too) and max_tokens."""

    def respond(request, before):
        said = TEACHER(f"Ticket: {ticket_of(request)}", 0)
        text = f"<think>\n{THOUGHT}\n</think>\n\n{said}" if content else said
        ends = [text.find(stop) for stop in request.get("stop", ())]
        finish = "stop"
        text = text[: min((end for end in ends if end > 0), default=len(text))]
        if request["max_tokens"] < budget and budget < 10_000:
            text, finish = text[:12] if content else None, "length"
        more = {} if content else {"reasoning_content": THOUGHT}
        return good(text, finish=finish, **more)

    return respond


def test_thoughts_in_the_content_end_the_stops_that_would_end_them(rows_file, tmp_path, capsys):
    with scripted(_thinks()) as (endpoint, url):
        code, said, shown = _ask(capsys, url, rows_file, tmp_path)
        assert code == 0 and (said["answered"], said["parsed"], said["failed"]) == (40, 40, 0)
        stops = [request.get("stop") for request in endpoint.requests]
        # The first answer ended at a stop inside its thought, and was asked for again.
        assert stops[0] == ["\nTicket:"] and stops[1:] == [None] * 40
        assert shown.count("the model writes thoughts") == 1
        assert said["thoughts"]["samples"] == 40
        # Of a later run, the store tells that the model thinks.
        code, said, shown = _ask(
            capsys, url, rows_file, tmp_path, "--samples=2", "--temperature=.5"
        )
        assert endpoint.requests[41].get("stop") is not None, "other settings, other answers"
    rows = read_jsonl(tmp_path / "o.jsonl", "train")
    assert all(row.teacher_label == row.label for row in rows)
    assert not any("desk" in row.rationale for row in rows)


def test_a_resumed_job_sends_no_stops_to_a_model_that_thought(rows_file, tmp_path, capsys):
    with scripted(_thinks()) as (endpoint, url):
        _ask(capsys, url, rows_file, tmp_path, "--max_rows=5")
        before = len(endpoint.requests)
        _ask(capsys, url, rows_file, tmp_path)
        assert len(endpoint.requests) == before + 35
        assert not any("stop" in request for request in endpoint.requests[1:])


@pytest.mark.parametrize(("reasoning", "stop"), [("yes", None), ("no", ["\nTicket:"])])
def test_reasoning_is_what_the_flag_says(rows_file, tmp_path, capsys, reasoning, stop):
    with scripted(_thinks(content=False)) as (endpoint, url):
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, f"--reasoning={reasoning}")
    assert code == 0 and said["parsed"] == 40 and len(endpoint.requests) == 40
    assert {json.dumps(request.get("stop")) for request in endpoint.requests} == {json.dumps(stop)}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "{}"),
        (("--rationale=reasoning",), "The desk wants a reason. Ticket: it is broken."),
        (("--rationale=both",), "The desk wants a reason. Ticket: it is broken. {}"),
        (("--rationale=reasoning", "--reasoning_words=4"), "Ticket: it is broken."),
    ],
)
def test_the_student_learns_from_the_rationale_that_is_named(
    rows_file, tickets, tmp_path, capsys, flags, expected
):
    with scripted(_thinks(content=False)) as (endpoint, url):
        _ask(capsys, url, rows_file, tmp_path)
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, "--reparse", *flags)
        assert code == 0 and len(endpoint.requests) == 40
    assert {record["thoughts"] for record in _records(tmp_path)} == {THOUGHT}
    assert said["thoughts"] == {
        "samples": 40,
        "cut": 40 if len(flags) == 2 else 0,
        "missing": 0,
    }
    for row in read_jsonl(tmp_path / "o.jsonl", "train"):
        rationale, _, label = TEACHER(f"Ticket: {row.input.strip()}", 0).partition("\nAnswer: ")
        assert (row.teacher_label, row.rationale) == (label, expected.format(rationale))


@pytest.mark.parametrize("content", [True, False])
def test_a_budget_that_goes_into_thoughts_ends_the_job(rows_file, tmp_path, capsys, content):
    with scripted(_thinks(content, budget=400)) as (endpoint, url):
        flags = [] if content else ["--reasoning=yes"]
        code, said, shown = _ask(capsys, url, rows_file, tmp_path, *flags)
        paid = len(endpoint.requests)
        assert code == 2 and 20 <= paid <= 25
        assert f"The others ({paid} thought_too_long)" in shown and "raise --max_tokens" in shown
        assert shown.endswith(f". 0 rows of this run are stored, and {paid} as failed\n")
        for record in _records(tmp_path):
            assert (record["ok"], record["failure"]) == (False, "thought_too_long")
            assert record["usage"]["out"] == 10 and record["finish"] == "length"
        # What to set is set: no answer that was good is paid for again.
        code, said, shown = _ask(capsys, url, rows_file, tmp_path, "--max_tokens=500", *flags)
        assert code == 0 and said["parsed"] == 40 and len(endpoint.requests) == paid + 40


def test_a_longer_completion_is_asked_for_only_where_one_was_cut(rows_file, tmp_path, capsys):
    def respond(request, before):
        said = TEACHER(f"Ticket: {ticket_of(request)}", 0)
        if request["max_tokens"] < 100 and len(ticket_of(request)) % 3 == 0:
            return good(said[:8], finish="length")
        return good(said)

    with scripted(respond) as (endpoint, url):
        _, said, _ = _ask(capsys, url, rows_file, tmp_path)
        cut = said["cut_off"]
        assert 0 < cut == 40 - said["parsed"]
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, "--max_tokens=200")
        assert code == 0 and said["parsed"] == 40 and len(endpoint.requests) == 40 + cut


def test_other_stops_read_the_store_again(rows_file, tmp_path, capsys):
    """A server that ignores stops: the store holds whole completions."""
    prompt = tmp_path / "mine.toml"
    source = (prompts.FOLDER / "tickets.toml").read_text()
    assert 'stops = ["\\n\\n", "\\nTicket:"]' in source
    prompt.write_text(
        source.replace('stops = ["\\n\\n", "\\nTicket:"]', 'stops = ["zzz", "Answer"]')
    )
    with scripted(lambda request, before: good(TEACHER(f"Ticket: {ticket_of(request)}", 0))) as (
        endpoint,
        url,
    ):
        flags = [f"--prompt={prompt}", "--min_parsed=0"]
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, *flags)
        assert code == 0 and said["parsed"] == 0
        prompt.write_text(source)
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, *flags, "--reparse")
        assert code == 0 and said["parsed"] == 40
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, *flags)
        assert code == 0 and said["parsed"] == 40 and len(endpoint.requests) == 40


def test_answers_that_a_former_stop_cut_are_asked_for_again(rows_file, tmp_path, capsys):
    prompt = tmp_path / "mine.toml"
    source = (prompts.FOLDER / "tickets.toml").read_text()
    prompt.write_text(source.replace('"\\nTicket:"]', '"Answer"]'))
    with scripted(_cutting) as (endpoint, url):
        flags = [f"--prompt={prompt}", "--min_parsed=0"]
        _, said, _ = _ask(capsys, url, rows_file, tmp_path, *flags)
        assert said["parsed"] == 0
        prompt.write_text(source)
        _, said, _ = _ask(capsys, url, rows_file, tmp_path, *flags)
        assert said["parsed"] == 40 and len(endpoint.requests) == 80


def _cutting(request, before):
    """A model without thoughts, on a server that applies stops."""
    text = TEACHER(f"Ticket: {ticket_of(request)}", 0)
    ends = [text.find(stop) for stop in request.get("stop", ()) if stop in text]
    return good(text[: min(ends, default=len(text))])


def test_two_paragraphs_are_not_cut_by_the_stop_that_is_a_blank_line(rows_file, tmp_path, capsys):
    def respond(request, before):
        text = TEACHER(f"Ticket: {ticket_of(request)}", 0).replace("\n", "\n\n**") + "**"
        ends = [text.find(stop) for stop in request.get("stop", ()) if stop in text]
        return good(text[: min(ends, default=len(text))])

    with scripted(respond) as (_, url):
        code, said, _ = _ask(capsys, url, rows_file, tmp_path)
    assert code == 0 and said["parsed"] == 40


def test_missing_thoughts_are_told(rows_file, tmp_path, capsys):
    with scripted(_cutting) as (_, url):
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, "--rationale=reasoning")
        assert (code, said["parsed"], said["parse_failures"]) == (0, 40, {"no_rationale": 40})
        assert said["thoughts"] == {"samples": 0, "cut": 0, "missing": 40}
    argv = [f"--input={rows_file}", f"--output={tmp_path / 'o.jsonl'}", "--rationale=reasoning"]
    assert cli.main([*ASK[:3], *argv, "--reparse"]) == 0
    assert "warning: 40 answered rows have no thoughts for --rationale" in capsys.readouterr().out


def test_which_stops_are_sent():
    prompt = prompts.load_prompt("tickets")
    chat = Sampling(model="m").for_prompt(prompt)
    assert chat.sent_stops() == ("\nTicket:",) and chat.sent_stops(reasons=True) == ()
    text = Sampling(model="m", api="completions").for_prompt(prompt)
    assert text.sent_stops() == ("\n\n", "\nTicket:")
    assert Sampling(model="m", reasoning="yes").for_prompt(prompt).sent_stops() == ()
    own = Sampling(model="m", extra='{"stop": "x"}').for_prompt(prompt)
    row = prompt.exemplars[0]
    assert own.body(prompt, row, 1, 0, reasons=True)["stop"] == "x"


def test_hidden_thoughts_are_noticed_by_their_tokens(rows_file, tmp_path, capsys):
    def respond(request, before):
        found = answer(TEACHER(f"Ticket: {ticket_of(request)}", 0))
        found["usage"]["completion_tokens_details"] = {"reasoning_tokens": 5}
        return reply(200, found)

    with scripted(respond) as (endpoint, url):
        code, said, _ = _ask(capsys, url, rows_file, tmp_path)
    assert code == 0 and said["parsed"] == 40
    assert ["stop" in request for request in endpoint.requests] == [True] + [False] * 39


def test_answers_are_asked_for_as_json(rows_file, tickets, tmp_path, capsys):
    def respond(request, before):
        schema = request["response_format"]["json_schema"]["schema"]
        assert [*schema["properties"]] == schema["required"] == ["rationale", "answer"]
        assert "refund" in schema["properties"]["answer"]["enum"]
        shown = request["messages"][2]["content"]
        assert [*json.loads(shown)] == ["rationale", "answer"]
        said = TEACHER(f"Ticket: {ticket_of(request)}", 0).split("\nAnswer: ")
        return good(json.dumps(dict(zip(["rationale", "answer"], said, strict=True))))

    with scripted(respond) as (_, url):
        code, said, _ = _ask(capsys, url, rows_file, tmp_path, "--response_format=json_schema")
    assert code == 0 and said["parsed"] == 40
    rows = read_jsonl(tmp_path / "o.jsonl", "train")
    assert all(row.teacher_label == row.label and row.rationale for row in rows)


def test_a_server_without_json_schema_names_the_flag(rows_file, tmp_path, capsys):
    def respond(request, before):
        message = "Unsupported parameter: response_format"
        return reply(400, {"error": {"message": message, "param": "response_format"}})

    with scripted(respond) as (endpoint, url):
        code, _, shown = _ask(capsys, url, rows_file, tmp_path, "--response_format=json_schema")
    assert code == 2 and "leave out --response_format" in shown and len(endpoint.requests) == 1


def test_lenient_labels_are_counted_apart(rows_file, tmp_path, capsys):
    def respond(request, before):
        rationale, label = TEACHER(f"Ticket: {ticket_of(request)}", 0).split("\nAnswer: ")
        return good(f"{rationale}. We {label} it.")

    with scripted(respond) as (_, url):
        _, said, _ = _ask(capsys, url, rows_file, tmp_path, "--min_parsed=0")
        assert (said["parsed"], said["parse_failures"]) == (0, {"no_answer": 40})
        _, said, _ = _ask(capsys, url, rows_file, tmp_path, "--reparse", "--lenient_labels")
        assert (said["parsed"], said["parse_failures"]) == (40, {"lenient_label": 40})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reasoning_words=5"], "--reasoning_words works only with --rationale=reasoning"),
        (["--rationale=thoughts"], "got --rationale 'thoughts', expected one of answer"),
        (["--response_format=json_schema", "--api=completions"], "needs --api=chat"),
    ],
)
def test_flags_that_do_not_fit_are_refused(rows_file, tmp_path, capsys, flags, message):
    argv = [f"--input={rows_file}", f"--output={tmp_path / 'o.jsonl'}", "--base_url=http://x/v1"]
    assert cli.main([*ASK, *argv, *flags]) == 2
    assert message in capsys.readouterr().err
