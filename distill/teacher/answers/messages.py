"""Text and thoughts of a choice in a response, wherever the server puts them."""

from __future__ import annotations

from collections.abc import Mapping

# DeepSeek and vLLM, others, OpenRouter, LiteLLM
THOUGHT_FIELDS = (
    *("reasoning_content", "reasoning", "thinking", "thoughts"),
    *("reasoning_details", "thinking_blocks"),
)
_THOUGHT_PARTS = ("thinking", "reasoning", "thought", "redacted_thinking")  # how types begin
_TEXTS = ("text", "thinking", "reasoning", "reasoning_content", "thought", "summary", "content")


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
    for name in THOUGHT_FIELDS:
        text = _joined(fields.get(name))
        if text.strip():
            return text
    return _joined(fields.get("content"), thoughts=True)


def refusal_of(choice: Mapping[str, object]) -> str:
    """What a model says instead of an answer that it refuses to give, "" if it does not."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return ""
    found = [message.get("refusal"), *(part.get("refusal") for part in _parts(message))]
    return next((text for text in found if isinstance(text, str) and text), "")


def reasoning_tokens(usage: object) -> int:
    """The tokens of thoughts that a server counted, shown or not."""
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if type(count) is int and count > 0 else 0


def _joined(content: object, thoughts: bool | None = None) -> str:
    """A text, or the parts of a list that are thoughts, or that are not; None for all parts."""
    if isinstance(content, str):
        return "" if thoughts else content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append("" if thoughts else part)
        elif isinstance(part, dict) and thoughts in (None, _is_thought(part)):
            texts.append(_text_of_part(part))
    return "".join(texts)


def _parts(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The parts of a content that is a list."""
    content = message.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _is_thought(part: Mapping[str, object]) -> bool:
    """Whether a part of a content is a thought."""
    return str(part.get("type")).startswith(_THOUGHT_PARTS) or part.get("thought") is True


def _text_of_part(part: Mapping[str, object]) -> str:
    for name in _TEXTS:
        value = part.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list):  # Mistral: a list of parts of type text
            texts = [one.get("text") for one in value if isinstance(one, dict)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""
