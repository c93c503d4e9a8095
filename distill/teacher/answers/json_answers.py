"""Reads an answer that is a JSON object, bare or in a fence, alone or after other text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from distill.common.text_files import parse_json

_ANSWER_KEYS = (
    "answer",
    "finalanswer",
    "label",
    "choice",
    "prediction",
    "equation",
    "result",
    "class",
    "classification",
    "category",
    "predictedlabel",
    "finallabel",
    "answerletter",
    "sentiment",
    "relationship",
    "verdict",
    "output",
)
_RATIONALE_KEYS = (
    "rationale",
    "reason",
    "reasoning",
    "explanation",
    "because",
    "justification",
    "analysis",
    "thought",
    "thoughts",
    "chainofthought",
    "reasontext",
    "steps",
)
_LETTER_KEYS, _TEXT_KEYS = ("letter", "option", "key"), ("text", "value", "label", "content")
_FENCED = re.compile(r"```[^\n`]{0,40}\n(.*?)```", re.DOTALL)
_START = re.compile(
    r"^[ \t]{0,8}(?:\[\s{0,8}|<json>\s{0,8}|```json[ \t]{0,4})?(?=\{)", re.MULTILINE
)
_INLINE = re.compile(r"(?=\{\s{0,40}[\"'\w])")
# Backslashes that JSON lacks: those of LaTeX ("\times" begins with a tab, else).
_BACKSLASH = re.compile(
    r'\\\\|\\(?![\\"/bfnrtu])'
    r"|\\(?=(?:times|tfrac|theta|rightarrow|right|neq|rho|beta|nabla)(?![a-z])|(?:text[a-z]{0,2}|frac|boxed|bar)\{)"
)
_COMMA = re.compile(r",(?=\s{0,40}[}\]])")
# A name and a quoted value in what is nearly JSON.
_PAIR = re.compile(
    r"[\"']?([A-Za-z][\w ]{1,24})[\"']?\s{0,8}:\s{0,8}([\"'])(.{0,2000}?)\2"
    r"(?=\s{0,40}(?:,\s{0,40}[\"']?[A-Za-z][\w ]{1,24}[\"']?\s{0,8}:|,?\s{0,40}[}\]]))",
    re.DOTALL,
)
_LONGEST_BROKEN = 5000  # characters of it
_MOST_STARTS = 4  # places at which an object is looked for
_LONGEST = 100_000  # characters of an object
_DEEPEST = 50


def read_json(text: str, inline: bool = False) -> tuple[str, str] | None:
    """Label and rationale of the JSON object that a text is or ends in.

    Args:
      text: an answer.
      inline: looks for an object behind words of the same line too.

    Returns:
      The values of its answer and rationale as text, the second "" if there is none; None if the
      text has no object with an answer.
    """
    if "{" not in text:
        return None
    fenced = [match[1] for match in _FENCED.finditer(text)]
    starts = [match.end() for match in (_INLINE if inline else _START).finditer(text)]
    candidates = [
        *reversed(fenced[-_MOST_STARTS:]),
        *(text[s:] for s in starts[:_MOST_STARTS]),
    ]
    for read_object, most in ((_object, len(candidates)), (_broken_object, 2)):
        for candidate in candidates[:most]:
            fields = read_object(candidate)
            said = fields and _said(fields)
            if said:
                return said
    return None


def _object(text: str) -> Mapping[str, object] | None:
    """The JSON object that a text begins with."""
    text = text.strip()
    if not text.startswith("{") or len(text) > _LONGEST:
        return None
    end = _end_of_object(text)
    if end is None:
        return None
    text = re.sub(r"[\n\r\t]", " ", text[:end])  # raw in strings, as models do
    text = _BACKSLASH.sub(lambda found: "\\\\", _COMMA.sub("", text))
    try:
        fields = parse_json(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _broken_object(text: str) -> Mapping[str, object] | None:
    """The names and texts of what is nearly a JSON object: other quotes, or none around names."""
    text = text.strip()[:_LONGEST_BROKEN]
    if not text.startswith("{"):
        return None
    return {match[1]: " ".join(match[3].split()) for match in _PAIR.finditer(text)}


def _end_of_object(text: str) -> int | None:
    """Where the braces of the first object are balanced, strings aside; None if they never are."""
    depth, inside, escaped = 0, False, False
    for position, character in enumerate(text):
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "{[":
            depth += 1
            if depth > _DEEPEST:
                return None
        elif character in "}]":
            depth -= 1
            if depth == 0:
                return position + 1
    return None


def _said(fields: Mapping[str, object]) -> tuple[str, str] | None:
    """The texts of the first answer key and the first rationale key."""
    plain = {re.sub(r"[\W_]", "", str(name)).lower(): value for name, value in fields.items()}
    answers = (_text(plain[name]) for name in _ANSWER_KEYS if name in plain)
    answer = next((text for text in answers if text), "")
    rationales = (_text(plain[name]) for name in _RATIONALE_KEYS if name in plain)
    return (answer, next((text for text in rationales if text), "")) if answer else None


def _text(value: object) -> str:
    """A value as text, "" if it is none: a list joined, a letter with the text of its choice."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or value is None:
        return json.dumps(value) if value is not None else ""
    if isinstance(value, (int, float)):
        return json.dumps(value)
    if isinstance(value, list):
        return " ".join(filter(None, (_text(one) for one in value if not isinstance(one, dict))))
    if isinstance(value, dict):
        letter = next((str(value[name]) for name in _LETTER_KEYS if name in value), "")
        text = next((str(value[name]) for name in _TEXT_KEYS if name in value), "")
        return f"({letter.strip('() ')}) {text}".strip() if letter else text.strip()
    return ""
