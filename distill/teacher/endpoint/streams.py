"""Server-sent events of a streamed completion, put together into one response.

Source of the format: the OpenAI API reference, "Streaming"; each event is a line `data: {...}`
whose choices hold a `delta` (chat) or a `text`, and the last one is `data: [DONE]`.
"""

from __future__ import annotations

from typing import Any

from distill.common.text_files import parse_json
from distill.teacher.answers.messages import THOUGHT_FIELDS

_TEXTS = ("content", *THOUGHT_FIELDS, "refusal")  # of a delta
_BOM = b"\xef\xbb\xbf"


def is_stream(content: bytes) -> bool:
    """Whether a body holds server-sent events."""
    content = content.removeprefix(_BOM).lstrip()
    return content.startswith((b"data:", b"event:", b"id:", b"retry:", b": ", b":\n"))


def assemble(content: bytes) -> dict[str, Any]:
    """The response that a stream stands for, as if it had not been streamed.

    Args:
      content: all bytes of the body.

    Returns:
      A response with `choices`, `model`, `usage`; or the event that says what went wrong.

    Raises:
      ValueError: an event that is no JSON object, or a stream that ends before its choices do.
    """
    response: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    done = False
    for event in _events(content):
        if event == b"[DONE]":
            done = True
            continue
        fields = parse_json(event)
        if not isinstance(fields, dict):
            raise ValueError("an event of the stream is not a JSON object")
        if fields.get("error") or (not fields.get("choices") and _says_error(fields)):
            return fields
        for name in ("id", "model", "usage"):
            if fields.get(name):
                response[name] = fields[name]
        for choice in fields.get("choices") or ():
            if not isinstance(choice, dict):
                raise ValueError("a choice of the stream is not a JSON object")
            _add(choices, choice)
    if not done and not all(choice["finish_reason"] for choice in choices.values()):
        raise ValueError("the stream broke off")
    return response | {"choices": [choices[index] for index in sorted(choices)]}


def _events(content: bytes) -> list[bytes]:
    """The data of the events; comments and other fields are passed over.

    An event ends at a blank line; its lines of data belong together. Some servers leave blank lines
    out: a line that begins a JSON object or is [DONE] then begins an event.
    """
    events: list[list[bytes]] = [[]]
    text = content.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in text.split(b"\n"):
        if not line.strip():
            events.append([])
        elif line.startswith(b"data:") and (data := line[5:].strip()):
            if events[-1] and (data == b"[DONE]" or data.startswith(b'{"')):
                events.append([])
            events[-1].append(data)
    return [b"\n".join(lines) for lines in events if lines]


def _says_error(fields: dict[str, Any]) -> bool:
    """Whether an event without choices says what went wrong."""
    return any(isinstance(fields.get(name), str) and fields[name] for name in ("detail", "message"))


def _add(choices: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    """Adds a part of a choice to what came of it before."""
    index = part.get("index")
    index = index if type(index) is int else 0
    choice = choices.setdefault(index, {"index": index, "finish_reason": None})
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    if isinstance(part.get("text"), str):
        choice["text"] = choice.get("text", "") + part["text"]
    delta = part.get("delta") or part.get("message")
    if isinstance(delta, dict):
        message = choice.setdefault("message", {})
        for name in _TEXTS:
            if delta.get(name):
                message[name] = _longer(message.get(name), delta[name])


def _longer(before: object, more: object) -> object:
    """A text, or a list of parts, with what a delta adds to it."""
    if isinstance(before or "", str) and isinstance(more, str):
        return f"{before or ''}{more}"
    parts = [*_as_parts(before), *_as_parts(more)]
    return parts or before


def _as_parts(value: object) -> list[object]:
    """A text or a part as a list of parts."""
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    return [value] if isinstance(value, dict) else []
