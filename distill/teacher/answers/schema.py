"""The JSON schema that --response_format=json_schema sends, so that a server writes JSON alone."""

from __future__ import annotations

from collections.abc import Sequence

INSTRUCTION = 'Write JSON: {"rationale": "...", "answer": "..."}'


def response_format(labels: Sequence[str]) -> dict[str, object]:
    """The field `response_format` of a request.

    Args:
      labels: the closed set of answers; () if any text is one.
    """
    text: dict[str, object] = {"type": "string"}
    answer = text | {"enum": list(dict.fromkeys(labels))} if labels else text
    schema = {
        "type": "object",
        "properties": {"rationale": text, "answer": answer},  # in this order: reasons come first
        "required": ["rationale", "answer"],
        "additionalProperties": False,
    }
    wrapped = {"name": "answer", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": wrapped}
