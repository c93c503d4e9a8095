"""Forms of an input: how the choices of a row become part of the text that a student reads.

A run folder names the form of its student (student.json), so that a row with `choices` is
answered in the form that the student was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from distill.errors import UserError

PLAIN, ANSWER_CHOICES = "plain", "answer_choices"
FORMS = (PLAIN, ANSWER_CHOICES)
_LISTED = re.compile(r"\nAnswer Choices:\n\(a\) \S")
_LETTERS = 26


def list_choices(question: str, choices: Sequence[str]) -> str:
    """The question and, on lines of their own, `Answer Choices:` and `(a) ...`.

    Spacing is evened out. This is the form of the authors' code for CommonsenseQA.

    Args:
      question: the text before the choices.
      choices: 1 to 26 texts.
    """
    lines = [
        f"({chr(ord('a') + index)}) {' '.join(choice.split())}"
        for index, choice in enumerate(choices)
    ]
    return "\n".join([" ".join(question.split()), "Answer Choices:", *lines])


def needs_choices(form: str, text: str) -> bool:
    """Whether an input lacks the choices that its form has in it."""
    return form == ANSWER_CHOICES and not _LISTED.search(text)


def complete(form: str, text: str, choices: Sequence[str], where: str = "row") -> str:
    """The input in a form: with its choices in it, unless they are there already.

    Args:
      form: one of FORMS.
      text: the input as it was given.
      choices: the closed set of the row; () leaves the text as it is.
      where: what an error message calls the row.

    Raises:
      UserError: more choices than letters.
    """
    if not choices or not needs_choices(form, text):
        return text
    if len(choices) > _LETTERS:
        raise UserError(
            f"{where}: got {len(choices)} `choices`, expected at most {_LETTERS}: this student's "
            "inputs list them as (a) to (z)"
        )
    return list_choices(text, choices)
