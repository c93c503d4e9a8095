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

_NAMES = "think|thinking|thought|thoughts|seed:think"
_OPEN = (
    rf"<(?:{_NAMES})>|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|channel\|>\s{0,4}analysis\s{0,4}<\|message\|>"
)
_CLOSE = (
    rf"</(?:{_NAMES})>|\[/THINK\]|\u25c1/think\u25b7|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<\|channel\|>\s{0,4}final\s{0,4}<\|message\|>"
)
_TAG = re.compile(rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})", re.IGNORECASE)


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
    return bool(thoughts.strip()) or _TAG.search(content) is not None


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
