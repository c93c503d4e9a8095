"""`distill annotate` on gs://: rows, store and output; ended by signals and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from distill.data.examples import write_jsonl

B = "gs://bucket/annotate"


def _argv(url):
    flags = "--prompt=tickets --model=simulated-returns --progress_seconds=0 --timeout=60"
    files = [f"--input={B}/rows.jsonl", f"--output={B}/out.jsonl", f"--store={B}/store"]
    own = [f"--base_url={url}", "--concurrency=4"]
    return [sys.executable, "-m", "distill.cli", "annotate", *flags.split(), *own, *files]


def _stored(objects):
    shards = [objects.get(name) for name in objects.names("bucket/annotate/store/shard")]
    return [json.loads(line)["id"] for line in b"".join(shards).splitlines()]


@pytest.mark.slow
def test_answers_of_an_ended_job_are_not_asked_for_again(objects, serve, tickets, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", tickets)
    objects.put("bucket/annotate/rows.jsonl", (tmp_path / "rows.jsonl").read_bytes())
    lost = 0
    with serve(latency=0.4) as (endpoint, url):
        for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
            before = len(_stored(objects))
            job = subprocess.Popen(_argv(url), stderr=subprocess.PIPE, text=True)
            while len(_stored(objects)) < before + 20 and job.poll() is None:
                time.sleep(0.05)
            job.send_signal(number)
            said = job.communicate()[1]
            assert job.returncode == code, said
            if number == signal.SIGTERM:
                assert said.splitlines()[-1].startswith("distill: stopped by SIGTERM")
                answered = endpoint.counts["answered"]  # those that a kill lost are asked again
                assert answered - lost - len(_stored(objects)) <= 4  # and those on the way
            lost = endpoint.counts["answered"] - len(_stored(objects))
        done = subprocess.run(_argv(url), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    ids = _stored(objects)
    assert sorted(ids) == sorted(row.id for row in tickets)  # each once: none was asked again
    rows = [json.loads(line) for line in objects.get("bucket/annotate/out.jsonl").splitlines()]
    assert [row["id"] for row in rows] == [row.id for row in tickets]
    assert not [name for name in objects.names() if name.endswith("/lock") or ".tmp" in name]
