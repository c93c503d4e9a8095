"""Takes the marks of Markdown, HTML and chat templates off a text; its words stay.

    **Answer:** `neutral`<|im_end|>   ->   Answer: neutral

All functions take time linear in the length of the text.
"""

from __future__ import annotations

import re

# The end of a model's turn; what follows is an invented next turn.
_END_OF_TURN = re.compile(
    r"<\|(?:im_end|eot_id|end|end_of_text|endoftext|eom_id|return|call|END_OF_TURN_TOKEN"
    r"|end_of_solution|END_RESPONSE|im_start|start|start_header_id|user|system)\|>"
    r"|</s>|<end_of_turn>|<start_of_turn>|<eos>|<\uff5cend\u2581of\u2581sentence\uff5c>"
    r"|<\uff5cUser\uff5c>|\[/?INST\]|\[END FINAL RESPONSE\]"
)
_START_OF_TURN = re.compile(
    r"\s*(?:<\|(?:im_start|start_header_id|start)\|>|<start_of_turn>)?\s{0,4}"
    r"(?:assistant|model|final)?\s{0,4}"
    r"(?:<\|(?:end_header_id|message|channel|assistant)\|>|<s>|<\uff5cAssistant\uff5c>)\s{0,4}"
    r"|\s*(?:<\|(?:im_start|start)\|>|<start_of_turn>)\s{0,4}(?:assistant|model)?\s{0,4}"
)
_OTHER_TOKEN = re.compile(r"<\|[A-Za-z_]{2,40}\|>")
_ANSWER_TAG = re.compile(r"<(/?)(?:answer|final_answer|final)>", re.IGNORECASE)
_ANSWER_PAIR = re.compile(r"<(answer|final_answer|final)>(.{0,2000}?)</\1>", re.I | re.S)
_ANSWER_INSIDE = re.compile(r"\banswer[ \t*_]{0,4}(?:[:\uff1a]|is\b)", re.IGNORECASE)
_LABEL_TAG = re.compile(
    r"<(label|result|prediction|classification|category|choice|verdict|sentiment)>"
    r"\s{0,8}([^<>\n]{1,200}?)\s{0,8}</\1>",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"</?(?:b|i|em|strong|code|p|u|span|div|json|response|output|reason|reasoning|rationale"
    r"|explanation|analysis|justification)>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)[^\n`]{0,40}$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]{0,8}(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]{0,8}$", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]{0,8}#{1,6}[ \t]{1,8}", re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]{0,8}>[ \t]{1,8}(?=[^\W\d]|[*_`])", re.MULTILINE)
_BULLET = re.compile(
    r"^[ \t]{0,16}[-*+\u2022\u2023\u25e6\u2013][ \t]{1,8}(?=[^\W\d]|[*_`\"'(\[])", re.M
)
_NUMBER = re.compile(r"^[ \t]{0,16}(\d{1,2})[.)][ \t]{1,8}(?=\S)", re.MULTILINE)
_STARS = re.compile(r"\*{1,3}|_{1,3}|~~")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")


def end_at_turn(text: str) -> str:
    """The text without the tokens of a chat template: up to the end of the model's turn."""
    if "<" not in text and "[" not in text:
        return text
    start = _START_OF_TURN.match(text)
    text = text[start.end() :] if start else text
    end = _END_OF_TURN.search(text)
    text = text[: end.start()].rstrip() if end else text
    return _OTHER_TOKEN.sub("", text)


def without_marks(text: str) -> str:
    """The text without marks; lines stay apart.

    Emphasis, code, headings, bullets, numbers of a list, quotes, fences, rules and tags lose their
    marks. `<answer>x</answer>` becomes a line `Answer: x`. Stars and underscores between words or
    numbers (`5 * 3`, `snake_case`) stay.
    """
    if "<" in text:
        text = _LABEL_TAG.sub(r"\nAnswer: \2\n", _ANSWER_PAIR.sub(_unwrapped, text))
        text = _ANSWER_TAG.sub(lambda tag: "\n" if tag[1] else "\nAnswer: ", text)
        text = _TAG.sub("", _BREAK.sub("\n", text))
    text = _INVISIBLE.sub("", text)
    text = _RULE.sub("", _FENCE.sub("", text))
    text = _without_numbers(_BULLET.sub("", _HEADING.sub("", _QUOTE.sub("", text))))
    if "`" in text:
        text = text.replace("`", "")
    return "\n".join(map(_without_emphasis, text.split("\n")))


def _unwrapped(pair: re.Match[str]) -> str:
    """An answer between tags; without them if it holds reasons and an answer phrase of its own."""
    return pair[2] if _ANSWER_INSIDE.search(pair[2]) else pair[0]


def _without_numbers(text: str) -> str:
    """The text without the numbers of a list: those that start lines and count 1, 2, ..."""
    numbers = [int(match[1]) for match in _NUMBER.finditer(text)]
    if len(numbers) < 2 or numbers != list(range(1, len(numbers) + 1)):
        return text
    return _NUMBER.sub("", text)


def _without_emphasis(line: str) -> str:
    """A line without the stars and underscores that stand in pairs around words.

    A mark opens before a character that is no space, unless a letter or digit is before it, and
    closes after one, unless a letter or digit follows. A mark of two or three that is left over at
    either end of the line goes too.
    """
    if "*" not in line and "_" not in line and "~~" not in line:
        return line
    marks = list(_STARS.finditer(line))
    opened: dict[str, list[int]] = {}
    dropped: set[int] = set()
    for number, mark in enumerate(marks):
        before = line[mark.start() - 1 : mark.start()] or " "
        after = line[mark.end() : mark.end() + 1] or " "
        waiting = opened.setdefault(mark.group(), [])
        if waiting and not before.isspace() and not after.isalnum():
            dropped |= {waiting.pop(), number}
        elif not after.isspace() and not before.isalnum():
            waiting.append(number)
    for number in (0, len(marks) - 1):
        mark = marks[number]
        if len(mark.group()) > 1 and (
            not line[: mark.start()].strip() or not line[mark.end() :].strip()
        ):
            dropped.add(number)
    kept, start = [], 0
    for number in sorted(dropped):
        kept.append(line[start : marks[number].start()])
        start = marks[number].end()
    return "".join([*kept, line[start:]])
