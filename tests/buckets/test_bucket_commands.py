"""Every file that a command reads or writes, on gs://."""

from __future__ import annotations

import json

import pytest

from distill import cli

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.slow
B = "gs://bucket/all"
ROWS = [
    {"id": str(n), "input": f"the {'dog' if n % 2 else 'cat'} {n}", "label": "ab"[n % 2]}
    | {"teacher_label": "ab"[n % 2], "rationale": f"because of {n}"}
    for n in range(40)
]


def _run(*argv):
    assert cli.main([str(each) for each in argv]) == 0, argv


def test_rows_cache_run_and_predictions(objects, micro, tmp_path, monkeypatch, capsys):
    objects.put("bucket/all/train.jsonl", "".join(json.dumps(r) + "\n" for r in ROWS).encode())
    monkeypatch.setenv("DISTILL_CACHE_DIR", f"{B}/cache")
    own = {"TRAIN_FILE": f"'{B}/train.jsonl'", "TEST_FRACTION": "0.2", "LABELS": "('a', 'b')"}
    own |= {"TRAIN_STEPS": "2", "WARMUP_STEPS": "1", "NUM_LABELS": "0", "EVAL_PERIOD": "0"}
    shrunk = dict(text.split("=", 1) for text in micro)
    shrunk = {name: value for name, value in shrunk.items() if name not in ("NUM_ROWS", "NUM_TEST")}
    settings = [f"--gin.{name}={value}" for name, value in (shrunk | own).items()]
    argv = ["train", "--gin_file=jsonl_step_by_step", f"--run_dir={B}/run", *settings]
    _run(*argv)
    assert objects.names("bucket/all/cache/") and objects.get("bucket/all/run/results.json")
    assert not [name for name in objects.names() if ".tmp" in name or name.endswith("/lock")]
    # The second run reads the cache that the first one wrote.
    before = len(objects.requests)
    _run(*argv[:2], f"--run_dir={B}/again", *settings)
    written = {r.path for r in objects.requests[before:] if r.kind == "write"}
    assert not [path for path in written if "/cache/" in path and "/xla/" not in path]
    assert objects.get("bucket/all/again/metrics.jsonl") == objects.get(
        "bucket/all/run/metrics.jsonl"
    )
    answers = tmp_path / "answers.jsonl"
    _run("predict", f"--run_dir={B}/run", f"--input={B}/train.jsonl", f"--output={answers}")
    assert len(answers.read_text().splitlines()) == 40
    scores = f"--output={B}/scores.json"
    _run("evaluate", f"--run_dir={B}/run", f"--input={B}/train.jsonl", scores)
    assert json.loads(objects.get("bucket/all/scores.json"))
    capsys.readouterr()
