"""The header and the lines of a store: their checks, and what those of earlier versions mean."""

from __future__ import annotations

import os
import re
from typing import Any

from etils import epath

from distill.common.progress import tell
from distill.common.text_files import parse_json
from distill.errors import UserError
from distill.teacher.answers.problems import problem_of_record
from distill.teacher.endpoint.outcomes import Reason, is_broken_off
from distill.teacher.storage.keys import key_of

SCHEMA = 2
EARLIER = 1  # the schema whose keys held the ids of rows

# What follows the head of a record, as `samples.record` writes it.
_REQUEST = re.compile(
    rb'"id": "(?:[^"\\]|\\.)*+", "digest": "([0-9a-f]{32})", "sample": ([0-9]{1,9})\b'
)
# Versions up to 0.1 stored as answers also what ended before the answer began.
_NO_ANSWER = re.compile(rb'"completion": "(?:\\[nrt]| )*"|think(?:ing)?>', re.IGNORECASE)


def read_header(path: epath.Path) -> dict[str, object]:
    """What the `store.json` of a store says.

    Raises:
      UserError: it is no JSON object, or of another schema.
    """
    try:
        header: dict[str, object] = parse_json(path.read_bytes())
        schema = header.get("schema")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not JSON; is {path.parent} a store?") from error
    if schema not in (EARLIER, SCHEMA):
        raise UserError(
            f"{path}: got schema {schema!r}, expected {SCHEMA}; use the version of distill that "
            "wrote the store, or another --store"
        )
    return header


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


def remove_cut_end(path: epath.Path, offset: int) -> None:
    """Removes the bytes of a record that was not written to its end, and prints a line.

    Args:
      path: the shard.
      offset: bytes of its whole records.
    """
    os.truncate(path, offset)
    tell(
        f"{path}: the last record was cut off when its writer was killed; its row is requested "
        "again"
    )


def content_key(line: bytes, start: int) -> bytes | None:
    """The key of what a record's line says was asked; None if it does not say it.

    Args:
      line: the record.
      start: where its head (`key` and `ok`) ends.
    """
    match = _REQUEST.match(line, start)
    return bytes.fromhex(key_of(match[1].decode(), int(match[2]))) if match else None


def is_answer(line: bytes) -> bool:
    """Whether a record that counts as answered holds an answer."""
    if _NO_ANSWER.search(line) is None:
        return True
    try:
        return problem_of_record(parse_json(line)) is None
    except ValueError:
        return True  # damaged; it is named when it is read


def as_failure(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a failed sample in place of one that holds no answer, see `is_answer`."""
    finish = str(record.get("finish"))
    broken_off = (Reason.SERVER_ERROR, f"the answer ended with finish_reason {finish!r}")
    problem = problem_of_record(record)
    reason, message = broken_off if problem is None or is_broken_off(finish) else problem
    return record | {"ok": False, "failure": str(reason), "message": message}
