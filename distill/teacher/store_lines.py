"""Checks of a line of the store, and of the record in it."""

from __future__ import annotations

from distill.common.text_files import parse_json


def is_json(line: bytes) -> bool:
    """Whether a line is JSON."""
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def find_problem(record: object) -> str:
    """What is wrong with a record, "" if nothing is."""
    if not isinstance(record, dict):
        return "not an object"
    name = "completion" if record.get("ok") else "failure"
    if not isinstance(record.get(name), str):
        return f"{name!r} is not a string"
    usage = record.get("usage") or {}
    if not isinstance(usage, dict) or any(
        type(usage.get(name, 0)) not in (int, float) for name in ("in", "out")
    ):
        return "the values of 'usage' are not numbers"
    return ""
