"""Messages for text that gin cannot read: what was expected, and the quotes that a string needs."""

from __future__ import annotations

import re
import shlex

from distill.common.text_files import too_many_digits
from distill.errors import UserError

_SHOWN = 300  # characters of a message of gin's
_DEEP = "nested too deeply"  # for errors without a text
_LONGEST = 80  # characters of a value that is repeated in quotes
_SETTING = re.compile(r"([\w./]+)\s*=\s*(.*)", re.DOTALL)  # NAME = value
_TOKEN = re.compile(r"Failed to parse token '(.+)'", re.DOTALL)  # from gin's own message
# What gin expects after the first character of a value.
_BEGINNINGS = {
    "[": "a list such as ['a', 'b']",
    "(": "a tuple such as ('a', 'b')",
    "{": "a dict such as {'a': 1}",
    "@": "a gin reference such as @name",
    "%": "a macro such as %NAME",
}


def unreadable_file(error: Exception, text: str, path: str) -> UserError:
    """The error for a statement of a file that gin's parser refuses.

    Args:
      error: what the parser raised.
      text: the content of the file.
      path: name of the file.
    """
    line = getattr(error, "lineno", None) or 1
    reason = str(error.args[0] if error.args else "").strip().rstrip(".")
    if not path.endswith(".gin"):
        reason += (
            "; expected a gin file (to train on a file of rows, use --gin_file=jsonl_step_by_step "
            "--gin.TRAIN_FILE=FILE)"
        )
    elif token := _TOKEN.search(reason):
        settings = [_SETTING.match(each) for each in text.splitlines()[:line]]
        names = [setting[1] for setting in settings if setting]
        place = f" in the value of {names[-1]}" if names else ""
        if problem := too_many_digits(token[1]):
            return UserError(f"{path}:{line}: got {problem}{place}")
        reason = (
            f"got {token[1]}{place}, expected a number, True, False, None or a string in quotes, "
            f"such as {token[1]!r}"
        )
    return UserError(f"{path}:{line}: not a gin statement: {reason[:_SHOWN] or _DEEP}")


def unreadable_override(error: Exception, text: str, flag: str) -> UserError:
    """The error for a setting of the command line that gin's parser refuses.

    Args:
      error: what the parser raised.
      text: the setting as gin reads it, `NAME = value`.
      flag: `--gin.NAME`.
    """
    setting = _SETTING.fullmatch(text)
    if not setting:
        reason = str(error.args[0] if error.args else "").strip().rstrip(".")
        return UserError(f"{flag}: not a gin statement: {reason[:_SHOWN] or _DEEP}")
    value = setting[2]
    expected = _BEGINNINGS.get(value[:1], "a number, a string in quotes, a list, a tuple or a dict")
    begins = f", because the value begins with {value[0]}" if value[:1] in _BEGINNINGS else ""
    return UserError(
        f"{flag}: got {value.strip()}, expected {expected}{begins}; to pass a string, add inner "
        f"quotes: {in_quotes(flag, value)}"
    )


def in_quotes(flag: str, value: str) -> str:
    """How a shell passes the string `value` to a flag, quotes included."""
    return literal_in_quotes(flag, repr(value) if len(value) <= _LONGEST else "'...'")


def literal_in_quotes(flag: str, literal: str) -> str:
    """How a shell passes a Python literal to a flag."""
    is_plain = not set('"$`\\!') & set(literal)
    return f'{flag}="{literal}"' if is_plain else f"{flag}={shlex.quote(literal)}"
