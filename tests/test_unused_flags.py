"""No flag is ignored: one that needs another is refused, in one message with exit code 2."""

from __future__ import annotations

import pytest

from distill import cli

TEACHER = ("annotate", "--input={dir}/rows.jsonl", "--prompt=tickets", "--output={dir}/out.jsonl")
SIMULATED = ("annotate", "--output={dir}/out.jsonl")
CHECK = ("annotate", "--check=tickets")
BUILD = ("data", "build", "--tfds_data_dir={dir}/tfds")
TO_T5X = ("convert", "--from=native", "--to=t5x", "--run_dir={dir}", "--output={dir}/o")
TICKETS = "--gin_file=tickets_step_by_step"
PREDICT = ("predict", "--run_dir={dir}", "a text of mine")

CASES = [
    ((*PREDICT, "--length_penalty=0.8"), "--length_penalty works only with --beam=2 or more"),
    ((*PREDICT, "--length_penalty=0.6"), "--length_penalty works only with --beam=2 or more"),
    ((*PREDICT, "--tfds_split=test"), "--tfds_split works only with --tfds"),
    ((*PREDICT, "--tfds_data_dir={dir}"), "--tfds_data_dir works only with --tfds"),
    ((*PREDICT, "--field=input=x"), "--field works only with --input or --tfds"),
    ((*PREDICT, "--label_names=no,yes"), "--label_names works only with --input"),
    ((*PREDICT, "--format=csv"), "--format=csv needs --input"),
    (("config", "show", TICKETS, "--gin.a.b=1"), "a binding of a.b, which the native engine"),
    (("config", "explain", "SEED", TICKETS, "--gin.a.b=1"), "a binding of a.b"),
    (("config", "show", "SEED", TICKETS), "did you mean distill config explain SEED?"),
    (("evaluate", "--run_dir={dir}", TICKETS), "imports no module, so it has no effect"),
    (("evaluate", "--run_dir={dir}", "--field=input=x"), "--field works only with --input"),
    (("evaluate", "--run_dir={dir}", "--split=test", "--input={dir}/rows.jsonl"), "got both"),
    ((*BUILD, "--dataset=esnli", "--raw_dir={dir}", "--rows=5"), "--rows works only with"),
    ((*BUILD, "--dataset=esnli", "--raw_dir={dir}", "--test_rows=5"), "--test_rows works only"),
    ((*BUILD, "--dataset=tickets", "--name=mine"), "--name works only with --dataset=jsonl"),
    ((*BUILD, "--dataset=jsonl", "--raw_dir={dir}", "--teacher=palm"), "--teacher works only"),
    ((*BUILD, "--dataset=tickets", "--raw_dir={dir}"), "--raw_dir works only with released"),
    ((*TO_T5X, TICKETS), "--gin_file does not work with --from=native"),
    ((*TO_T5X, "--gin.SEED=1"), "--gin.NAME does not work with --from=native"),
    ((*TO_T5X, "--seed=1"), "--seed does not work with --from=native"),
    ((*TO_T5X, "--engine=t5x"), "--engine does not work with convert"),
    ((*TO_T5X, "--parameters_only"), "--parameters_only does not work with --from=native"),
    (
        ("preflight", TICKETS, "--topology=v5e:2x2", "--estimate", "--no_decoding"),
        "--no_decoding works only without --estimate",
    ),
    ((*TEACHER, "--model=m", "--tfds_data_dir={dir}"), "--tfds_data_dir works only with --tfds"),
    (
        ("annotate", "--raw_dir={dir}", "--dataset=cqa", "--field=input=x"),
        "--field works only with --input or --tfds",
    ),
    ((*TEACHER, "--model=m", "--rows=5"), "--rows works only for generated tickets"),
    ((*TEACHER, "--model=m", "--policy=hard"), "--policy works only for generated tickets"),
    ((*TEACHER, "--model=m", "--dataset=cqa"), "--dataset works only with --raw_dir or"),
    ((*TEACHER, "--model=m", "--dry_run", "--reparse"), "both --dry_run and --reparse"),
    (
        ("annotate", "--prompt=tickets", "--model=m", "--store={dir}/s", "--rationales=2"),
        "--rationales works only with --output",
    ),
    (
        ("annotate", "--prompt=tickets", "--model=m", "--teacher_accuracy=.5"),
        "--teacher_accuracy works only for the simulated teacher",
    ),
    ((*SIMULATED, "--samples=3"), "--samples works only with --model"),
    ((*SIMULATED, "--gold_only"), "--gold_only works only with --model"),
    ((*SIMULATED, "--dry_run"), "--dry_run works only with --model"),
    ((*SIMULATED, "--temperature=1"), "--temperature works only with --model"),
    ((*SIMULATED, "--teacher_row={dir}/t.json"), "--teacher_row works only with --model"),
    ((*CHECK, "--output={dir}/out.jsonl"), "--output works only without --check"),
    ((*CHECK, "--prompt=cqa"), "--prompt works only without --check"),
    ((*CHECK, "--max_rows=3"), "--max_rows works only without --check"),
    ((*CHECK, "--dry_run"), "both --dry_run and --check"),
]


@pytest.mark.parametrize(("argv", "message"), CASES, ids=lambda value: str(value)[:60])
def test_a_flag_that_would_be_ignored_is_refused(argv, message, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"input": "a"}\n')
    assert cli.main([text.replace("{dir}", str(tmp_path)) for text in argv]) == 2
    lines = [
        line for line in capsys.readouterr().err.splitlines() if " is running ... " not in line
    ]
    assert len(lines) == 1 and lines[0].startswith("distill: ") and message in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
