"""A store that an earlier version wrote: the same commands ask for nothing and write the same rows.

Answers are paid for. Whatever changes the key of an answer (ids, digests, settings that are sent)
fails here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from distill import cli

EARLIER = Path(__file__).parent / "data" / "earlier_store"
CHAT = (
    "--input={folder}/desk.jsonl",
    "--prompt={folder}/prompt.toml",
    "--samples=2",
    "--sample_seed=1",
)
COMPLETIONS = (
    "--raw_dir={folder}",
    "--dataset=cqa",
    "--api=completions",
    "--top_p=.9",
    "--no_stop",
    "--min_parsed=0",  # its one answer has no label
    '--extra={{"presence_penalty": 0.5}}',
)


@pytest.fixture
def annotate(tmp_path, capsys):
    """Runs `distill annotate` on a copy of the store."""
    folder = tmp_path / "earlier"
    shutil.copytree(EARLIER, folder)

    def run(url, flags, *more):
        argv = [flag.format(folder=folder) for flag in flags]
        fixed = [
            "--model=desk-model",
            f"--base_url={url}",
            f"--store={folder}/answers.store",
            f"--output={tmp_path}/out.jsonl",
            "--progress_seconds=0",
            "--json",
        ]
        assert cli.main(["annotate", *argv, *fixed, *more]) == 0
        return json.loads(capsys.readouterr().out), (tmp_path / "out.jsonl").read_bytes()

    return run


@pytest.mark.parametrize(
    ("flags", "expected", "failed"),
    [(CHAT, "desk.expected.jsonl", 1), (COMPLETIONS, "cqa.expected.jsonl", 2)],
)
def test_a_resumed_store_sends_no_request_and_gives_the_same_rows(
    serve, annotate, flags, expected, failed
):
    with serve() as (endpoint, url):
        said, written = annotate(url, flags)
        assert not endpoint.counts and (said["asked"], said["requests"]) == (0, 0)
        assert written == (EARLIER / expected).read_bytes()
        said, _ = annotate(url, flags, "--retry_failed")
        assert said["asked"] == failed == sum(endpoint.counts.values())


def test_further_samples_are_added_to_a_store_of_an_earlier_version(serve, annotate):
    with serve() as (endpoint, url):
        said, _ = annotate(url, CHAT[:2] + CHAT[3:], "--samples=3", "--max_rows=4")
        assert said["stopped"] == "max_rows" and sum(endpoint.counts.values()) == 4
        asked = said["tokens"]["out"] / 4
        assert asked < 40, "one sample a row, not three"
