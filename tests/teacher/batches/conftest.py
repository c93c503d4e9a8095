"""Sixty rows, and `distill annotate --batch` of them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from scripted_server import MODEL

from distill import cli
from distill.common import flags as settings
from distill.data.examples import write_jsonl
from distill.teacher.batches.settings import Batching


@pytest.fixture
def sixty(tmp_path, tickets):
    """60 rows in a file."""
    write_jsonl(tmp_path / "sixty.jsonl", tickets[:60])
    return tmp_path / "sixty.jsonl"


@pytest.fixture
def ask(sixty, tmp_path, capsys):
    """`ask(url, ...)`: exit code, and the result or what stderr says."""

    def run(url, *more, quiet=True):
        argv = [f"--input={sixty}", "--prompt=tickets", f"--model={MODEL}", f"--base_url={url}"]
        argv += [f"--output={tmp_path / 'o.jsonl'}", "--json", "--batch_poll_seconds=0.01"]
        argv += ["--batch", "--backoff_seconds=0.001"]
        argv += ["--progress_seconds=0"] if quiet else []
        code = cli.main(["annotate", *argv, *more])
        said = capsys.readouterr()
        run.err = said.err
        return code, said.err if code else json.loads(said.out)

    return run


@pytest.fixture(autouse=True)
def short_settling(monkeypatch):
    """The list of the mock shows a batch at once, or after a number of looks."""
    read = settings.from_options

    def shortened(kind, options):
        made = read(kind, options)
        if isinstance(made, Batching):
            return dataclasses.replace(made, settle_seconds=0.01)
        return made

    monkeypatch.setattr(settings, "from_options", shortened)
