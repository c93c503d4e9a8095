r"""Writes the LaTeX of an answer as plain ASCII: `$5 \times \frac{6}{3}$` becomes `5 * (6 / 3)`.

All functions take time linear in the length of the text.
"""

from __future__ import annotations

import re

from distill.data.released import equations

_DELIMITER = re.compile(r"\\[()\[\]]|\$\$")
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)[ \t]{0,4}\{")
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mathsf|operatorname|mbox|emph|underline)"
    r"[ \t]{0,4}(?=\{)"
)
_FRACTION = re.compile(r"\\[dt]?frac[ \t]{0,4}\{([^{}\\]{1,200})\}[ \t]{0,4}\{([^{}\\]{1,200})\}")
_SIZED = re.compile(r"\\(?:left|right|big|Big|bigl|bigr|displaystyle)(?![A-Za-z])")
_SIGNS = {
    "times": "*",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "minus": "-",
    "quad": " ",
    "qquad": " ",
    "approx": "=",
    "rightarrow": "->",
    "to": "->",
    "ldots": "...",
    "dots": "...",
}
_COMMAND = re.compile(r"[ \t]{0,8}\\(" + "|".join(_SIGNS) + r")(?![A-Za-z])[ \t]{0,8}")
_ESCAPED = re.compile(r"\\([$%#&_{}])")
_SPACE = re.compile(r"\\[,;:! ]")
_DOLLAR = re.compile(r"(?<!\\)\$")
# Signs of arithmetic between numbers that are not ASCII, beyond those that every reader takes.
_OTHER_SIGNS = (
    "xX\u00b7\u22c5\u2219\u2217"  # dots and stars
    "\u2013\u2014\u2010\u2011"  # dashes
    "\u2215\u2044\uff0b\uff1d"  # slashes, wide plus and equals sign
)
_ASCII = str.maketrans(_OTHER_SIGNS, "******----//+=")
_BETWEEN = re.compile(rf"(?<=[\d)])([ \t]{{0,4}})([{_OTHER_SIGNS}])([ \t]{{0,4}})(?=[\d(.$])")


def without_latex(text: str) -> str:
    r"""The text without LaTeX: delimiters, wrappers, signs and fractions; `\boxed{x}` is `x`."""
    if "\\" not in text and "$" not in text:
        return text
    text = _without_dollars(_DELIMITER.sub("", text))
    if "\\" not in text:
        return text
    text = _SIZED.sub("", _SPACE.sub(" ", text))
    text = _unwrapped(_WRAPPER.sub("", text) if "{" in text else text)
    text = _FRACTION.sub(_fraction, text)
    text = _COMMAND.sub(lambda sign: f" {_SIGNS[sign[1]]} ", text)
    return _ESCAPED.sub(r"\1", text)


def last_boxed(text: str) -> tuple[int, int, str] | None:
    r"""Start, end and content of the last complete `\boxed{...}`, or None."""
    boxes = list(_BOXED.finditer(text))
    for box in reversed(boxes[-4:]):
        end = _closing(text, box.end())
        if end is not None:
            return box.start(), end + 1, text[box.end() : end]
    return None


def plain_equation(text: str) -> str:
    """The text with the signs between its numbers in ASCII; an `x` between two is a product."""
    text = equations.to_ascii(text)
    return _BETWEEN.sub(lambda m: m[1] + m[2].translate(_ASCII) + m[3], text)


def _closing(text: str, start: int) -> int | None:
    """Where the brace closes whose content starts at `start`; contents have a bounded length."""
    depth = 1
    for position in range(start, min(len(text), start + 2000)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return position
    return None


def _unwrapped(text: str) -> str:
    """The text without the braces of boxes and wrappers; those of fractions stay."""
    text = _BOXED.sub("{", text)
    protected = {
        position
        for fraction in _FRACTION.finditer(text)
        for position in range(*fraction.span())
        if text[position] in "{}"
    }
    kept = []
    for position, character in enumerate(text):
        escaped = position and text[position - 1] == "\\"
        if character not in "{}" or escaped or position in protected:
            kept.append(character)
    return "".join(kept)


def _fraction(match: re.Match[str]) -> str:
    """`a / b`, with parentheses around what is no single number."""
    above, below = (
        part.strip() if re.fullmatch(r"\s*[\w.]+\s*", part) else f"({part.strip()})"
        for part in match.groups()
    )
    return f"({above} / {below})"


def _without_dollars(text: str) -> str:
    """The text without the dollar signs that enclose math on one line; amounts keep theirs.

    As in Markdown, an opening sign has no space after it, and a closing one has none before it and
    no digit after it.
    """
    if "$" not in text:
        return text
    signs = [sign.start() for sign in _DOLLAR.finditer(text)]
    dropped: set[int] = set()
    opened: int | None = None
    for at in signs:
        before, after = text[at - 1 : at] or " ", text[at + 1 : at + 2] or " "
        if opened is not None and "\n" in text[opened:at]:
            opened = None
        if opened is not None and not before.isspace() and not after.isalnum():
            dropped |= {opened, at}
            opened = None
        elif not after.isspace() and not before.isalnum():
            opened = at
    return "".join(c for at, c in enumerate(text) if at not in dropped) if dropped else text
