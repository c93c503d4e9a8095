"""docs/evidence.md names tests and scripts that exist."""

import re

import pytest
from shell_blocks import ROOT

TEXT = (ROOT / "docs/evidence.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("|") and "(../tests/" in line]


def test_each_claim_has_evidence():
    tables = re.findall(r"^\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", TEXT, re.MULTILINE)
    rows = [line for table in tables for line in table.splitlines()]
    assert len(rows) > 30
    for row in rows:
        evidence = row.rstrip("| ").rpartition("|")[2]
        assert re.search(r"\]\(|`(python|make|bash) ", evidence), row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_the_tests_exist(row):
    # A test is named after the link to its file.
    for piece in re.split(r"(?=\]\(\.\./tests/)", row)[1:]:
        path = re.match(r"\]\(\.\./(tests/[^)]+)\)", piece)[1]
        source = (ROOT / path).read_text()
        for name in re.findall(r"`(test_\w+)`", piece):
            assert f"def {name}(" in source, f"{path} has no {name}"


def test_the_scripts_exist():
    for name in re.findall(r"benchmarks/\w+\.(?:py|sh)", TEXT):
        assert (ROOT / name).is_file(), name
