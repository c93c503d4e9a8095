"""Rows of the released files, one builder for each kind of question.

A builder takes a JSON object and gives an example without teacher fields, and the
parser that reads the row's completion: choices differ from row to row, so that the
letters of an answer can only be read next to them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

from distill.common.accuracy import matches_exactly
from distill.data.examples import Example
from distill.data.mapping.input_forms import list_choices
from distill.data.released import equations
from distill.data.released.completions import (
    NLI_LABELS,
    Completion,
    parse_choice,
    parse_equation,
    parse_nli,
)
from distill.data.released.premises import nli_input
from distill.errors import UserError

Parser = Callable[[str], Completion]
Fields = Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the reader has to know of a released dataset.

    Attributes:
      splits: the splits that were released.
      row: JSON object, `file:line`, id and split -> example and parser of its completion.
      correct: whether a prediction counts as a gold label.
    """

    splits: tuple[str, ...]
    row: Callable[[Fields, str, str, str], tuple[Example, Parser]]
    correct: Callable[[str, str], bool] = matches_exactly


def nli_row(fields: Fields, where: str, row_id: str, split: str) -> tuple[Example, Parser]:
    """e-SNLI and ANLI: premise, hypothesis, label 0, 1 or 2.

    Raises:
      UserError: a field that is missing or wrong, named by `where`.
    """
    premise, hypothesis = _text(fields, "premise", where), _text(fields, "hypothesis", where)
    label = fields.get("label")
    if type(label) is not int or not 0 <= label < len(NLI_LABELS):
        codes = ", ".join(f"{code} {name}" for code, name in enumerate(NLI_LABELS))
        raise UserError(f"{where}: got label {label!r}, expected one of {codes}")
    example = Example(
        id=row_id,
        input=nli_input(premise, hypothesis),
        label=NLI_LABELS[label],
        choices=NLI_LABELS,
        split=split,
    )
    return example, parse_nli


def choice_row(fields: Fields, where: str, row_id: str, split: str) -> tuple[Example, Parser]:
    """CQA: question, choices, answer (the text of one of them).

    The input is the question and, on lines of their own, `Answer Choices:` and
    `(a) ...`, as in the authors' code. A choice that stands twice in the row does so in
    the input, and once in `Example.choices`.

    Raises:
      UserError: a field that is missing or wrong, named by `where`.
    """
    question, answer = _text(fields, "question", where), _text(fields, "answer", where)
    listed = fields.get("choices")
    if (
        not isinstance(listed, list)
        or not all(isinstance(c, str) and c.strip() for c in listed)
        or not 2 <= len(listed) <= 26
    ):
        raise UserError(
            f"{where}: got {listed!r} for `choices`, expected a list of 2 to 26 strings"
        )
    choices = tuple(" ".join(choice.split()) for choice in listed)
    if answer not in choices:
        raise UserError(
            f"{where}: got answer {answer!r}, expected one of the row's choices: "
            f"{', '.join(choices)}"
        )
    example = Example(
        id=row_id,
        input=list_choices(question, choices),
        label=answer,
        choices=tuple(dict.fromkeys(choices)),
        split=split,
    )
    return example, functools.partial(parse_choice, choices=choices)


def svamp_row(fields: Fields, where: str, row_id: str, split: str) -> tuple[Example, Parser]:
    """SVAMP: input (two lines), label (an equation with a value).

    Raises:
      UserError: a field that is missing or wrong, named by `where`.
    """
    label = _text(fields, "label", where)
    try:
        equations.value(label)
    except equations.EquationError as error:
        raise UserError(
            f"{where}: got label {label!r} ({error.failure}), expected an equation such as "
            "( 84.0 / 2.0 ); correct the row"
        ) from error
    example = Example(id=row_id, input=_lines(fields, "input", where), label=label, split=split)
    return example, parse_equation


def asdiv_row(fields: Fields, where: str, row_id: str, split: str) -> tuple[Example, Parser]:
    """ASDiv: Body, Question, Answer ("9 (apples)"), or the fields of SVAMP.

    The label is the first word of `Answer`. Some are no numbers (a time of day): they
    are kept, and an answer to them counts only to the letter.

    Raises:
      UserError: a field that is missing or wrong, named by `where`.
    """
    if "Body" not in fields:
        return svamp_row(fields, where, row_id, split)
    text = f"{_text(fields, 'Body', where)}\n{_text(fields, 'Question', where)}"
    label = _text(fields, "Answer", where).split()[0]
    return Example(id=row_id, input=text, label=label, split=split), parse_equation


def _text(fields: Fields, name: str, where: str) -> str:
    """A text field that is not blank, its spacing evened out."""
    return " ".join(_lines(fields, name, where).split())


def _lines(fields: Fields, name: str, where: str) -> str:
    """A text field that is not blank."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: got {value!r} for `{name}`, expected a string")
    return value.strip()


_THREE, _TWO = ("train", "valid", "test"), ("train", "test")
KINDS: dict[str, Kind] = {
    "esnli": Kind(_THREE, nli_row),
    "anli1": Kind(_THREE, nli_row),
    "cqa": Kind(_TWO, choice_row),
    "svamp": Kind(_TWO, svamp_row, equations.same_value),
    "asdiv": Kind(_TWO, asdiv_row, equations.same_value),
}
