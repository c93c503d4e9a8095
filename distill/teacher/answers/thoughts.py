"""Splits the thoughts of a reasoning model from its answer.

Models write their thoughts into the content (`<think>...</think>`), or servers put them into a
field of their own. Inside the content there may be both tags, only the closing one (the opening one
is part of the model's chat template), or only the opening one (the completion was cut).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

# `<think>`, `<thinking>`, `<mm:think>`, `<longcat_think>`, with attributes or as HTML entities.
_NAMES = (
    r"(?:[a-z]{1,20}[:_])?(?:think|thinking|thoughts?|inner_thoughts?|scratch_?pad|reflection"
    r"|inner_monologue)"
)
_FROM, _TO = r"(?:<|&lt;)\s{0,2}", r"(?:\s{1,3}[\w:-]{1,20}=[^<>&]{0,40})?\s{0,2}(?:>|&gt;)"
_OPEN = (
    rf"{_FROM}{_NAMES}{_TO}|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|(?:<\|start\|>\s{0,4}assistant\s{0,4})?"
    r"<\|channel\|?>\s{0,4}(?:analysis|commentary|thought)\s{0,4}(?:<\|message\|>|(?=\n))"
    r"|<unused94>\s{0,4}thought\b|\AHere (?:is|are) my thought process:"
)
_CLOSE = (
    rf"{_FROM}/\s{{0,2}}{_NAMES}\s{{0,2}}(?:>|&gt;)|\[/THINK\]|\u25c1/think\u25b7"
    r"|<\|end_of_thought\|>|<\|END_THINKING\|>|<channel\|>|<unused95>"
    r"|(?:<\|end\|>\s{0,4})?(?:<\|start\|>\s{0,4}assistant\s{0,4})?"
    r"<\|channel\|>\s{0,4}final\s{0,4}(?:<\|constrain\|>\s{0,4}\w{0,20}\s{0,4})?<\|message\|>"
    r"|\[BEGIN FINAL RESPONSE\]"
)
_TAG = re.compile(rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)
# The channels of gpt-oss on a server that leaves its tokens out.
_BARE_CHANNELS = re.compile(r"\s{0,8}analysis(?=\S)(.*?)\s{0,4}assistantfinal(.*)", re.DOTALL)
_RESPONSE = re.compile(r"^Here is my response:", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a model said.

    Attributes:
      answer: the content without thoughts.
      thoughts: the thoughts without tags, "" if there are none.
      reasons: whether there are thoughts, or tags of thoughts.
      unfinished: whether the content ends inside a thought.
    """

    answer: str
    thoughts: str
    reasons: bool
    unfinished: bool


def has_thoughts(record: Mapping[str, Any]) -> bool:
    """Whether the stored record of a sample holds thoughts, or tags of thoughts."""
    content, thoughts = str(record.get("completion") or ""), str(record.get("thoughts") or "")
    return split_thoughts(content, thoughts).reasons


def split_thoughts(content: str, thoughts: str = "") -> Said:
    """Splits the thoughts from the answer.

    Everything before a closing tag without an opening one is a thought. An opening tag inside a
    thought is part of the thought.

    Args:
      content: the content of the message.
      thoughts: what the server put into a field for thoughts. If there is no content, and a
        closing tag in this field, the answer is what follows the tag.

    Returns:
      Answer and thoughts.
    """
    if not content.strip() and _TAG.search(thoughts):
        content, thoughts = thoughts, ""
    bare = _BARE_CHANNELS.fullmatch(content)
    if bare:
        content = f"<think>{bare[1]}</think>{bare[2]}"
    elif content.startswith("Here "):
        content = _RESPONSE.sub("</think>", content)
    answer, thought = [], [thoughts]
    inside = tags = False
    start = 0
    for tag in _TAG.finditer(content):
        tags = True
        if tag["open"] and inside:
            continue
        part, start = content[start : tag.start()], tag.end()
        if tag["open"]:
            answer.append(part)
            inside = True
        elif inside:
            thought.append(part)
            inside = False
        else:
            thought += [*answer, part]
            answer = []
    (thought if inside else answer).append(content[start:])
    said = "\n".join(text for part in thought if (text := part.strip()))
    return Said(
        answer="".join(answer),
        thoughts=said,
        reasons=tags or bool(said),
        unfinished=inside,
    )
