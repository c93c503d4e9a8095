"""Server-sent events of a streamed completion, put together into one response.

Source of the format: the OpenAI API reference, "Streaming"; each event is a line `data: {...}`
whose choices hold a `delta` (chat) or a `text`, and the last one is `data: [DONE]`.
"""

from __future__ import annotations

from typing import Any

from distill.common.text_files import parse_json

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")  # of a delta


def is_stream(content: bytes) -> bool:
    """Whether a body holds server-sent events."""
    return content.lstrip().startswith((b"data:", b"event:", b"id:", b"retry:", b": ", b":\n"))


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
        if fields.get("error"):
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
    """The data of the events; comments and other fields are passed over."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [line[5:].strip() for line in lines if line.startswith(b"data:") and line[5:].strip()]


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
            if isinstance(delta.get(name), str):
                message[name] = message.get(name, "") + delta[name]
