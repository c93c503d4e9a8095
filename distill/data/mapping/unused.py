"""Fields of records that fill no field of a row, for messages about what rows lack."""

from __future__ import annotations

from collections.abc import Iterable

from distill.data.examples import Example

_MOST = 5  # that are named


def unused_fields(rows: Iterable[Example], how: str) -> str:
    """ "; <how> (other fields: 'Topic', 'Why')", or "" if the first row has no other fields.

    Args:
      rows: of which some lack a field.
      how: what the user should do with the field that holds it.
    """
    names = list(next((row.extra for row in rows), {}))
    if not names:
        return ""
    shown = ", ".join(map(repr, names[:_MOST])) + (", ..." if len(names) > _MOST else "")
    return f"; {how} (other fields: {shown})"
