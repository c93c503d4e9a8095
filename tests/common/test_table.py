"""Tables as text."""

from __future__ import annotations

from distill.common.table import render_columns


def test_columns_are_as_wide_as_their_widest_cell():
    assert render_columns(("name", "n"), [("a", "10"), ("long name", "7")], "<>").splitlines() == [
        "name        n",
        "a          10",
        "long name   7",
    ]


def test_a_rule_and_no_header():
    assert render_columns(("ab", "c"), [("d", "")], rule=True) == "ab  c\n--  -\nd"
    assert render_columns((), [("a", "1"), ("bcd", "2")]) == "a    1\nbcd  2"
    assert render_columns((), []) == ""
    assert render_columns(("a", "b"), []) == "a  b"
