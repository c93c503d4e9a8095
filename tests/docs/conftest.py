"""Counts the shell blocks of the pages, and shows the counts at the end of a test run."""

from __future__ import annotations

import collections

import pytest

_COUNTS: collections.Counter[tuple[str, str]] = collections.Counter()


@pytest.fixture
def block_counts() -> collections.Counter[tuple[str, str]]:
    """How many blocks of each page were "run" or "parsed"; tests add to it."""
    return _COUNTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per page with shell blocks."""
    pages = sorted({page for page, _ in _COUNTS})
    for page in pages:
        run, parsed = _COUNTS[page, "run"], _COUNTS[page, "parsed"]
        terminalreporter.write_line(f"shell blocks of {page}: {run} run, {parsed} parsed")
