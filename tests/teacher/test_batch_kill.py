"""kill -9 at random moments of `distill annotate --batch`: nothing is lost or paid for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from batch_server import batch_server, error_line
from scripted_server import MODEL

from distill.data.examples import write_jsonl
from distill.teacher.storage.store import Store

STAGES = {
    # Requests to the provider at which the process is killed, before or after they are done.
    "POST /files": ("before", "after"),
    "POST /batches": ("before", "after"),
    "GET /batches/ID": ("before", "after"),
    "GET /files/ID/content": ("before", "after"),
}


def _answers(folder):
    with Store(folder, read_only=True) as store:
        return sorted((r["key"], r["completion"]) for r in store.records())


def _run(endpoint, url, rows, output, moment=None):
    """Runs the command; kills it at a moment: (kind of request, its number, before or after)."""
    argv = [sys.executable, "-m", "distill.cli", "annotate", f"--input={rows}", "--prompt=tickets"]
    argv += [f"--model={MODEL}", f"--base_url={url}", f"--output={output}", "--batch", "--json"]
    argv += ["--batch_poll_seconds=0.01", "--batch_requests=15", "--samples=2", "--sample_seed=0"]
    seen = 0

    def hook(kind, when):
        nonlocal seen
        if moment and kind == moment[0] and when == moment[2]:
            seen += 1
            if seen == moment[1]:
                os.kill(process.pid, signal.SIGKILL)

    with subprocess.Popen(
        [*argv, "--progress_seconds=0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        endpoint.hook = hook
        out, err = process.communicate()
    return process.returncode, out, err


def _check(tmp_path, tickets, moments):
    rows = tmp_path / "rows.jsonl"
    write_jsonl(rows, tickets[:60])
    order: dict[str, int] = {}

    def spoil(request, before):
        number = order.setdefault(request["custom_id"], len(order))
        if number % 7 == 3 and not before:
            return [], [error_line(request["custom_id"], "batch_expired")]
        return None

    kills = 0
    with batch_server(spoil) as (endpoint, url):
        for moment in moments:
            before = _answers(tmp_path / "k.store") if (tmp_path / "k.store").exists() else []
            code, _, err = _run(endpoint, url, rows, tmp_path / "k.jsonl", moment)
            assert code in (0, -signal.SIGKILL), err
            kills += code != 0
            assert {*before} <= {*_answers(tmp_path / "k.store")}
        code, out, err = _run(endpoint, url, rows, tmp_path / "k.jsonl")
        assert code == 0, err
        said = json.loads(out)
        assert said["answered"] == said["written"] == 60
        # Each request was run once by the provider, and those that expired twice.
        for custom_id, times in endpoint.asked.items():
            assert times == (2 if order[custom_id] % 7 == 3 else 1), custom_id
    assert not list((tmp_path / "k.store" / "batches").iterdir())
    answers = _answers(tmp_path / "k.store")
    assert len(answers) == len(dict(answers)) == 120
    with batch_server() as (endpoint, url):
        assert _run(endpoint, url, rows, tmp_path / "whole.jsonl")[0] == 0
    assert answers == _answers(tmp_path / "whole.store")
    return kills


@pytest.mark.slow
def test_twenty_kills_neither_lose_nor_repeat_anything(tmp_path, tickets):
    draw = random.Random(0)
    kinds = [kind for kind in STAGES for _ in range(5)]
    draw.shuffle(kinds)
    moments = [(kind, 1, draw.choice(STAGES[kind])) for kind in kinds]
    assert _check(tmp_path, tickets, moments) >= 15
