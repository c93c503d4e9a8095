"""What docs/sweeps.md shows of `distill sweep --list` is what the command prints."""

from __future__ import annotations

import itertools
import shlex

from shell_blocks import ROOT, blocks_of

from distill import cli


def test_the_listed_runs_are_those_of_the_page(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    shown = [
        (shlex.split(before.text), after.text)
        for before, after in itertools.pairwise(blocks_of("docs/sweeps.md"))
        if before.text.endswith(" --list") and after.language == "text"
    ]
    assert len(shown) == 1
    for words, text in shown:
        assert cli.main(words[1:]) == 0
        assert capsys.readouterr().out == f"{text}\n"
