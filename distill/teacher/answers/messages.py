"""Text and thoughts of a choice in a response, wherever the server puts them."""

from __future__ import annotations

from collections.abc import Mapping

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")  # DeepSeek and vLLM, others
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_content", "thought")


def text_of(choice: Mapping[str, object]) -> str:
    """The text of a choice of either API, "" if it has none.

    The parts of a content list that are thoughts are left out; see `thoughts_of`.
    """
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    return _joined(content, thoughts=False)


def thoughts_of(choice: Mapping[str, object]) -> str:
    """The thoughts that a choice has in a field, or in parts of its content, of their own."""
    message = choice.get("message")
    fields = message if isinstance(message, dict) else choice
    for name in _THOUGHT_FIELDS:
        text = _joined(fields.get(name), thoughts=False)
        if text.strip():
            return text
    return _joined(fields.get("content"), thoughts=True)


def refusal_of(choice: Mapping[str, object]) -> str:
    """What a model says instead of an answer that it refuses to give, "" if it does not."""
    message = choice.get("message")
    refusal = message.get("refusal") if isinstance(message, dict) else None
    return refusal if isinstance(refusal, str) else ""


def reasoning_tokens(usage: object) -> int:
    """The tokens of thoughts that a server counted, shown or not."""
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if type(count) is int and count > 0 else 0


def _joined(content: object, thoughts: bool) -> str:
    """A text, or the parts of a list that are thoughts, or that are not."""
    if isinstance(content, str):
        return "" if thoughts else content
    texts = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            texts.append("" if thoughts else part)
        elif isinstance(part, dict) and (part.get("type") in _THOUGHT_PARTS) == thoughts:
            texts.append(_text_of_part(part))
    return "".join(texts)


def _text_of_part(part: Mapping[str, object]) -> str:
    for name in ("text", *_THOUGHT_PARTS):
        value = part.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):  # Mistral: a list of parts of type text
            texts = [one.get("text") for one in value if isinstance(one, dict)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""
