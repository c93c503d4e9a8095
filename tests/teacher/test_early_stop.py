"""A job whose answers are of no use stops before it has paid for more than 25 of them."""

from __future__ import annotations

import json

import pytest
from scripted_server import MODEL, good, scripted

from distill import cli
from distill.data.examples import write_jsonl
from distill.errors import UserError
from distill.teacher import prompts
from distill.teacher.early_stop import Readings, _shape

THINKING = "Let me think about it. The desk"  # all of the budget goes into thoughts


@pytest.fixture
def sixty(tmp_path, tickets):
    """60 rows in a file."""
    write_jsonl(tmp_path / "sixty.jsonl", tickets[:60])
    return tmp_path / "sixty.jsonl"


def _ask(capsys, url, rows, output, *more):
    argv = [f"--input={rows}", "--prompt=tickets", f"--model={MODEL}", f"--base_url={url}"]
    argv += [f"--output={output}", "--json", "--progress_seconds=0", *more]
    code = cli.main(["annotate", *argv])
    said = capsys.readouterr()
    return code, said.err if code else json.loads(said.out)


def test_sixty_rows_of_no_label_cost_at_most_25_answers(sixty, tmp_path, capsys):
    shapes = [THINKING, "**Label**: `x`", '{"label": "x"}', "# No"]

    def respond(request, before):
        number = len(endpoint.requests) % 10
        kind = 0 if number < 5 else 1 if number < 8 else 2 if number == 8 else 3
        return good(shapes[kind], finish="length" if kind == 0 else "stop")

    with scripted(respond) as (endpoint, url):
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl")
        asked = len(endpoint.requests)
        assert code == 2 and 20 <= asked <= 25
        assert "0 of 20 answers have a label that can be read" in said
        assert "--min_parsed asks for 25%" in said and "--min_parsed=0 continues" in said
        assert f"10 like '{THINKING}'; 6 like '**Label**: `x`'; 2 like " in said
        assert "10 of them were cut off at --max_tokens" in said
        assert not (tmp_path / "o.jsonl").exists()
        # The same command asks for nothing more: what is stored tells as much.
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl")
        assert code == 2 and "0 of 20 answers" in said and len(endpoint.requests) == asked
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl", "--min_parsed=0")
        assert code == 0 and len(endpoint.requests) == 60 and said["answered"] == 60


def test_a_parser_that_fits_goes_on_with_the_answers_that_were_paid_for(sixty, tmp_path, capsys):
    source = (prompts.FOLDER / "tickets.toml").read_text()
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(source.replace('parser = "label"', 'parser = "equation"'))
    with scripted(lambda request, before: good()) as (endpoint, url):
        code, _ = _ask(capsys, url, sixty, tmp_path / "o.jsonl", f"--prompt={wrong}")
        asked = len(endpoint.requests)
        assert code == 2 and asked <= 25
        wrong.write_text(source)
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl", f"--prompt={wrong}")
    assert code == 0 and said["parsed"] == 60 and len(endpoint.requests) == 60
    assert said["requests"] == 60 - asked


def test_the_first_request_runs_alone_and_the_next_20_four_at_once(
    serve, run_job, tickets, tmp_path
):
    with serve(latency=0.1) as (endpoint, url):
        most = []  # at once, when each request came

        def log(*_):
            most.append(endpoint._at_once)

        endpoint.log = log
        run_job(url, tickets, tmp_path / "s", concurrency=16)
        assert most[:2] == [1, 1] and 2 <= max(most[:21]) <= 4 < max(most) <= 16
        del most[:]
        run_job(url, tickets, tmp_path / "s", concurrency=16)
        assert not most
        # Stored answers that can be read speak for the model, but not for the server of today.
        more = tickets[:30], tmp_path / "t"
        run_job(url, *more)
        del most[:]
        run_job(url, tickets[:50], tmp_path / "t", concurrency=16)
        assert most[:2] == [1, 1] and len(most) == 20 and max(most) > 4


def test_a_share_below_the_floor_stops_the_job_later_too(run_job, tickets, tmp_path):
    def respond(request, before):
        return good() if len(endpoint.requests) <= 30 else good(THINKING)

    with scripted(respond) as (endpoint, url):
        with pytest.raises(UserError, match=r"of \d+ answers have a label .* asks for 50%"):
            run_job(url, tickets, tmp_path / "s", min_parsed=0.5, max_failures=1000, concurrency=2)
        assert 60 <= len(endpoint.requests) <= 64


def test_rows_in_turn_without_a_label_count_as_failures(run_job, tickets, tmp_path):
    def respond(request, before):
        return good() if len(endpoint.requests) <= 60 else good(THINKING)

    with scripted(respond) as (endpoint, url):
        with pytest.raises(UserError, match="no label could be read from 10 consecutive rows"):
            run_job(url, tickets, tmp_path / "s", max_failures=10, concurrency=2)
        assert 70 <= len(endpoint.requests) <= 72


def test_another_model_stops_the_job_at_its_first_answer(sixty, tmp_path, capsys):
    with scripted(lambda request, before: good(model="simulated-returns-32k")) as (endpoint, url):
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl")
        assert code == 2 and len(endpoint.requests) == 1
        assert (
            "answered by 'simulated-returns-32k'" in said and "--any_model accepts it, or" in said
        )
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl", "--any_model")
    assert code == 0 and said["models"] == {"simulated-returns-32k": 60}


def test_another_model_after_the_right_one_is_retried_then_stops(run_job, tickets, tmp_path):
    def respond(request, before):
        other = 5 < len(endpoint.requests) < 9 or len(endpoint.requests) > 40
        return good(model="another" if other else MODEL)

    with scripted(respond) as (endpoint, url):
        with pytest.raises(UserError, match="answered by 'another'"):
            run_job(url, tickets, tmp_path / "s", concurrency=2, max_attempts=100)
        assert 60 <= len(endpoint.requests) <= 62  # 20 in turn


def test_dated_names_are_stored_and_counted(sixty, tmp_path, capsys):
    def respond(request, before):
        return good(model=f"{MODEL}-2024-0{1 + len(endpoint.requests) % 2}-01")

    with scripted(respond) as (endpoint, url):
        code, said = _ask(capsys, url, sixty, tmp_path / "o.jsonl")
        assert code == 0
        assert said["models"] == {f"{MODEL}-2024-01-01": 30, f"{MODEL}-2024-02-01": 30}
        argv = [f"--input={sixty}", "--prompt=tickets", f"--model={MODEL}", "--reparse"]
        assert cli.main(["annotate", *argv, f"--output={tmp_path / 'o.jsonl'}"]) == 0
    assert f"answered by: 30 {MODEL}-2024-01-01, 30 " in capsys.readouterr().out


def test_progress_shows_the_share_of_labels(run_job, tickets, tmp_path, capsys):
    def respond(request, before):
        return good() if len(endpoint.requests) % 4 else good("# No")

    with scripted(respond) as (endpoint, url):
        run_job(url, tickets[:40], tmp_path / "s", progress_seconds=60)
    assert "75% parsed, 4,000 tokens in, " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Because it is so.\nAnswer: x", "It rains, he says.\nAnswer: y z", True),
        ("**Answer**: x", "Answer: x", False),
        ("<think>a b</think> c", "<think>d</think> e f, g.", True),
        ("<think>a b</think> c", "a b c", False),
        ('{"label": "a b"}', '{"label": "c"}', True),
        ("\\boxed{b}", "b", False),
    ],
)
def test_shapes_of_answers(one, other, same):
    assert (_shape(one) == _shape(other)) == same


def test_no_share_is_asked_of_fewer_than_20_answers(tickets):
    readings = Readings(prompts.load_prompt("tickets"), 0.5)
    record = {"ok": True, "completion": "no"}
    for _ in range(19):
        assert not readings.add(tickets[0], record) and readings.why_stop() is None
    readings.add(tickets[0], record)
    assert "0 of 20 answers" in readings.why_stop()
