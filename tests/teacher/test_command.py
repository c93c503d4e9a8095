"""`distill annotate` from the command line: modes, exit codes, what is shown, the key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill import cli
from distill.common.terminal import printable
from distill.data.examples import read_jsonl
from distill.tickets import server
from distill.tickets.faults import FaultPlan

ASK = [
    "annotate",
    "--prompt=tickets",
    "--model=simulated-returns",
    "--progress_seconds=0",
    "--timeout=60",
    "--backoff_seconds=.01",
]
KEY = "sk-secret-8675309-never-shown"


def _run(capsys, *argv):
    code = cli.main([*ASK, *map(str, argv), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


def test_unlabeled_rows_become_training_rows(serve, rows_file, tickets, tmp_path, capsys):
    output, teacher = tmp_path / "out" / "annotated.jsonl", tmp_path / "teacher.json"
    with serve(FaultPlan({"500": 0.2})) as (endpoint, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={output}"]
        code, said = _run(capsys, *argv, "--max_rows=15")
        assert (code, said["stopped"], said["answered"], said["pending"]) == (0, "max_rows", 15, 25)
        code, said = _run(capsys, *argv, f"--teacher_row={teacher}")
        assert (code, said["stopped"], said["asked"], said["written"]) == (0, None, 25, 40)
        seen = endpoint.counts["answered"]
        assert seen == 40
        code, said = _run(capsys, *argv[::2], "--reparse", "--drop_leaks")
        assert code == 0 and endpoint.counts["answered"] == seen
    assert said["store"] == str(tmp_path / "out" / "annotated.store")
    rows = read_jsonl(output, "train")
    assert [row.id for row in rows] == [row.id for row in tickets[:40]]
    assert all(row.teacher_label == row.label and row.rationale for row in rows)
    found = json.loads(teacher.read_text())
    assert (found["accuracy"], found["n_test"], found["cost_per_row"]) == (1.0, 40, 0.0)
    assert (found["method"], found["dataset"]) == ("few_shot_teacher", str(rows_file))
    assert 0.9 < found["interval"][0] < 1 == found["interval"][1]


def test_what_is_stored_is_neither_estimated_nor_written_for_a_batch(
    serve, rows_file, tmp_path, capsys
):
    output, batch = tmp_path / "o.jsonl", tmp_path / "batch.jsonl"
    prices = tmp_path / "prices.json"
    prices.write_text('{"simulated-returns": {"in": 10, "out": 30}}')
    rows = [f"--input={rows_file}", f"--output={output}", f"--prices={prices}"]
    whole = _run(capsys, *rows, "--dry_run")[1]
    assert whole["rows_to_ask"] == 40 and not list(tmp_path.glob("o.*"))
    with serve() as (_, url):
        assert _run(capsys, *rows, f"--base_url={url}", "--max_rows=30")[0] == 0
    left = _run(capsys, *rows, "--dry_run")[1]
    assert (left["rows"], left["rows_to_ask"]) == (40, 10)
    assert left["cost_at_most"] == pytest.approx(whole["cost_at_most"] / 4, rel=0.01)
    first = read_jsonl(rows_file, "train")[30]
    assert first.input in left["first_prompt"]
    cost = f"--max_cost={0.45 * left['cost_at_most']}"
    for bound, count in ([], 10), (["--max_rows=3"], 3), ([cost], 4):
        code, said = _run(capsys, *rows, f"--batch_write={batch}", *bound)
        assert (code, said["requests"]) == (0, count)
        assert len(batch.read_text().splitlines()) == count


def test_a_job_without_any_answer_is_no_success(serve, rows_file, tmp_path, capsys):
    output = tmp_path / "o.jsonl"
    with serve(FaultPlan(always={"500": 1.0})) as (_, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={output}"]
        code, said = _run(capsys, *argv, "--max_rows=3", "--max_attempts=2")
    assert code == 2 and "no row was answered: 3 server_error" in said and "--retry_failed" in said
    assert not output.exists()


def test_a_second_interrupt_ends_it_with_one_line(serve, rows_file, tmp_path):
    """The first waits for what is under way; nothing of it is lost."""
    with serve(latency=3) as (endpoint, url):
        argv = [*ASK, f"--input={rows_file}", f"--base_url={url}", f"--output={tmp_path / 'o'}"]
        job = subprocess.Popen([sys.executable, "-m", "distill.cli", *argv], stderr=subprocess.PIPE)
        while not endpoint.counts:
            time.sleep(0.02)
        job.send_signal(signal.SIGINT)
        time.sleep(0.5)
        job.send_signal(signal.SIGINT)
        lines = job.communicate(timeout=60)[1].splitlines()
        assert lines[-1] == b"distill: interrupted"
        assert any(line.startswith(b"Ctrl-C: waiting for 1 row under way;") for line in lines)
        assert job.returncode == 130
        job = subprocess.Popen([sys.executable, "-m", "distill.cli", *argv], stderr=subprocess.PIPE)
        asked = sum(endpoint.counts.values())
        while sum(endpoint.counts.values()) == asked:
            time.sleep(0.02)
        job.send_signal(signal.SIGINT)
        said = job.communicate(timeout=60)[1].decode()
    last = said.splitlines()[-1]  # a slow start says so first
    assert job.returncode == 130
    assert last.startswith("distill: interrupted. 1 row of this run is stored; the same command")


def test_reparse_of_what_was_never_asked_leaves_the_output(serve, rows_file, tmp_path, capsys):
    output = tmp_path / "o.jsonl"
    rows = [f"--input={rows_file}", f"--output={output}"]
    with serve() as (_, url):
        assert _run(capsys, *rows, f"--base_url={url}")[0] == 0
    before = output.read_bytes()
    code, said = _run(capsys, *rows, "--reparse", "--temperature=.5")
    assert code == 2 and "no answer to this prompt, model and settings" in said
    assert "differs in: settings" in said and output.read_bytes() == before
    assert _run(capsys, *rows, "--reparse")[0] == 0 and output.read_bytes() == before
    code, said = _run(capsys, *rows, "--reparse", f"--store={tmp_path / 'none'}")
    assert code == 2 and "does not exist" in said and not (tmp_path / "none").exists()


def test_rows_that_could_not_be_written_are_refused_before_they_are_paid_for(
    serve, tmp_path, capsys
):
    rows = tmp_path / "r.jsonl"
    good = "premise: A dog sleeps. hypothesis: It rests."
    rows.write_text(json.dumps({"input": good}) + '\n{"input": "no premise"}\n')
    with serve() as (endpoint, url):
        argv = [f"--input={rows}", f"--base_url={url}", f"--output={tmp_path / 'o.jsonl'}"]
        for more, message in (
            (["--prompt=esnli"], "row r/train/1: the input does not match input_pattern"),
            ([f"--released_dir={tmp_path}", "--dataset=svamp"], "r/train/0 has no gold label"),
            ([f"--released_dir={tmp_path}"], "unknown dataset 'tickets'"),
            ([f"--teacher_row={tmp_path / 't.json'}"], "--teacher_row needs rows with gold"),
        ):
            code, said = _run(capsys, *argv, *more)
            assert code == 2 and message in said
        assert not endpoint.counts
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_samples_that_were_cut_off_are_counted(serve, rows_file, tmp_path, capsys, monkeypatch):
    content = server._content

    def cut(*args):
        found = content(*args)
        found["choices"][0]["finish_reason"] = "length"
        return found

    monkeypatch.setattr(server, "_content", cut)
    with serve() as (_, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={tmp_path / 'o.jsonl'}"]
        assert cli.main([*ASK, *argv]) == 0
    assert "truncated at --max_tokens: 40 samples" in capsys.readouterr().out


def test_a_job_without_any_label_is_no_success_however_small(serve, rows_file, tmp_path, capsys):
    argv = [f"--input={rows_file}", f"--output={tmp_path / 'o.jsonl'}", "--max_rows=7"]
    with serve(respond=lambda prompt, draw: "I\x1b[2J cannot say." + "x" * 400) as (_, url):
        assert cli.main([*ASK, *argv, f"--base_url={url}"]) == 2
        said = capsys.readouterr()
        assert "written: 7 rows" in said.out
        assert "no label could be read from the 7 answered rows (7 no_answer): " in said.err
        assert "the prompt 'tickets' asks for" in said.err and "x...'. If only the p" in said.err
        assert "The first completion is 'I\\x1b[2J cannot say.xxx" in said.err
        assert cli.main([*ASK, *argv, f"--base_url={url}", "--min_parsed=0"]) == 0
        assert "warning: no label could be read" in capsys.readouterr().err
    with serve() as (_, url):
        argv = [argv[0], f"--output={tmp_path / 'p.jsonl'}", f"--base_url={url}"]
        assert cli.main([*ASK, *argv]) == 0
    assert "no label" not in capsys.readouterr().err


def test_the_layout_of_released_data_is_explained(tmp_path, capsys):
    code, said = _run(capsys, f"--raw_dir={tmp_path}", "--dataset=cqa", f"--output={tmp_path}/o")
    assert code == 2 and "cqa_train.json does not exist" in said
    assert "Set --raw_dir to the unpacked data folder of google-research/distilling" in said


def test_a_key_given_as_an_argument_is_refused_and_not_repeated(rows_file, capsys):
    for flag in ("--key", "--api_key"):
        assert cli.main([*ASK, f"--input={rows_file}", f"{flag}={KEY}"]) == 2
        shown = capsys.readouterr()
        assert "not accepted as arguments" in shown.err
        assert KEY not in shown.out + shown.err


def test_errors_are_escaped(tmp_path, capsys):
    bad = tmp_path / "r.jsonl"
    bad.write_text('{"input": "a", "id": "x"}\n{"input": "b", "id": "x", "lab\\u001b[2Jel": 1}\n')
    code, said = _run(capsys, f"--input={bad}", f"--output={tmp_path / 'o'}")
    assert code == 2 and "\x1b" not in said
    assert cli.main([*ASK, f"--input={tmp_path / 'no'}\x1b[2J", "--output=o"]) == 2
    assert "\x1b" not in (shown := capsys.readouterr().err) and "\\x1b[2J" in shown


def test_annotated_rows_are_what_training_reads(serve, rows_file, tmp_path, capsys):
    """The JSONL file goes through the `jsonl` dataset unchanged."""
    from distill.config.resolve import resolve
    from distill.data.datasets import load_splits

    output = tmp_path / "train.jsonl"
    with serve() as (_, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={output}"]
        assert _run(capsys, *argv)[0] == 0
    overrides = [
        f"TRAIN_FILE='{output}'",
        f"TEST_FILE='{rows_file}'",
        "NUM_LABELS=0",
        "LABELS=('replace','repair','refund','refuse')",
    ]
    (tmp_path / "rows2.jsonl").write_text(rows_file.read_text().replace('"train"', '"test"'))
    overrides[1] = f"TEST_FILE='{tmp_path / 'rows2.jsonl'}'"
    data = resolve(["tickets_step_by_step", "gin/data/jsonl.gin"], overrides).run.data
    splits = load_splits(data)
    rows = [*splits.train, *splits.validation]
    assert len(rows) == 40 and all(row.rationale and row.teacher_label for row in rows)


def test_dry_run_needs_no_endpoint_and_no_key(rows_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    argv = [f"--input={rows_file}", f"--output={tmp_path / 'o.jsonl'}", "--model=gpt-4o-mini"]
    assert cli.main([*ASK, *argv, "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "You sort the tickets" in shown and "at most $0.00" in shown and "40 rows" in shown
    assert read_jsonl(rows_file, "train")[0].input in shown
    assert '"max_tokens": 60' in shown and not list(tmp_path.glob("o*"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--output"),
        (["--output=o.jsonl", "--model="], "--model"),
        (["--output=o.jsonl", "--max_tokens=0"], "--max_tokens 0, expected at least 1"),
        (["--output=o.jsonl", "--prompt=tikets"], "closest: tickets"),
        (["--output=o.jsonl", "--input=a", "--tfds=b"], "got both --input and --tfds"),
        (["--output=o.jsonl", "--samples=3", "--temperature=0"], "would all be the same"),
        (["--output=o.jsonl", "--samples=0"], "--samples 0"),
        (["--output=o.jsonl", "--max_rows=0"], "--max_rows 0, expected at least 1"),
        (["--output=o.jsonl", "--base_url=localhost"], "expected e.g. http://"),
        (["--output=o.jsonl", "--extra={"], "expected a JSON object"),
        (["--output=o.jsonl", '--extra={"stream": true}'], "must not set 'stream'"),
        (["--output=o.jsonl", "--rationales=0"], "--rationales 0"),
        (["--output=o.jsonl", "--timeout=0"], "--timeout 0"),
        (["--output=o.jsonl", "--backoff_seconds=-1"], "--backoff_seconds -1"),
        (["--output=o.jsonl", "--min_words=-1"], "--min_words -1"),
        (["--output=o.jsonl", "--requests_per_minute=nan"], "--requests_per_minute nan"),
        (["--output=o.jsonl", "--max_cost=nan"], "--max_cost nan"),
        (
            ["--output=o.jsonl", "--teacher_accuracy=87"],
            "--teacher_accuracy 87.0, expected between 0 and 1",
        ),
        (["--output=o.jsonl", "--raw_dir=x"], "needs --dataset"),
        (["--output=o.jsonl", "--min_agreement=2"], "min_agreement"),
        (["--output=o.jsonl"], "OPENAI_API_KEY is not set"),
        (
            ["--output=o.jsonl", "--model=m", "--max_cost=1", "--base_url=http://localhost:9/v1"],
            "needs the price",
        ),
    ],
)
def test_bad_flags_exit_with_2_and_leave_nothing(argv, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, said = _run(capsys, *argv)
    assert code == 2 and message in said and said.startswith("distill: ")
    assert not list(tmp_path.iterdir())


def test_check_from_the_command_line(tmp_path, capsys):
    assert cli.main(["annotate", "--check=tickets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    bad = tmp_path / "bad.toml"
    from distill.teacher import prompts

    bad.write_text((prompts.FOLDER / "tickets.toml").read_text().replace("\\nAnswer:", "\\n"))
    assert cli.main(["annotate", f"--check={bad}"]) == 2
    assert "exemplar 1: its completion parses to label None" in capsys.readouterr().err


def test_a_permanent_error_exits_with_2_and_says_how_to_go_on(
    serve, rows_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(key="sk-other") as (_, url):
        argv = [f"--input={rows_file}", f"--base_url={url}", f"--output={tmp_path / 'o.jsonl'}"]
        code, said = _run(capsys, *argv)
    assert code == 2 and "rejects the key" in said and "resumes there" in said
    assert KEY not in said


def test_the_key_is_in_nothing_that_is_written_or_shown(serve, rows_file, tmp_path):
    """Standard output, errors, library logs, arguments and every file, searched for the key."""
    work = tmp_path / "work"
    work.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    env |= {"MY_KEY": KEY, "OPENAI_LOG": "debug"}
    with serve(FaultPlan({"500": 0.3, "drop": 0.1, "429": 0.1}), key=KEY) as (endpoint, url):
        argv = [
            *ASK,
            f"--input={rows_file}",
            f"--base_url={url}",
            f"--output={work / 'o.jsonl'}",
            "--key_env=MY_KEY",
        ]
        done = subprocess.Popen(
            [sys.executable, "-m", "distill.cli", *argv],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while not endpoint.counts:
            time.sleep(0.01)
        titles = [Path(f"/proc/{done.pid}/{name}").read_bytes() for name in ("cmdline", "comm")]
        stdout, stderr = done.communicate(timeout=120)
    assert done.returncode == 0 and endpoint.counts["answered"] == 40
    assert b"annotate" in titles[0]
    assert b"HTTP" in stderr, "the library should have logged"
    written = [path.read_bytes() for path in work.rglob("*") if path.is_file()]
    assert len(written) >= 4
    for text in (stdout, stderr, *titles, *written):
        assert KEY.encode() not in text


def test_control_characters_of_a_model_or_server_are_escaped():
    assert printable("a\x1b[31m\u202eb\x07\nc") == "a\\x1b[31m\\u202eb\\x07\nc"
    assert printable("über 東京 🎉\t") == "über 東京 🎉\t"
    assert printable("a\nb\ud800", keep="") == "a\\nb\\ud800"


def test_what_a_student_learned_to_say_is_escaped_too(capsys):
    from distill.commands import predict

    row = {"prediction": "a\x1b[2J", "input": "b", "rationale": "c\u202ed"}
    predict.show({"predictions": [row]})
    assert capsys.readouterr().out == ("prediction\tinput\trationale\na\\x1b[2J\tb\tc\\u202ed\n")
