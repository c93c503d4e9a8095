"""What `distill new` sets in its gin files and its prompt, from what it measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from distill.common.phrases import are, share
from distill.data.examples import Example
from distill.data.vocabularies import Vocabulary, padded_size
from distill.new.measure import Measured
from distill.new.render import toml
from distill.teacher.rehearsal import RATIONALE, UNFILLED

_MOST_TOKENS = {"bytes": 1024, "sentencepiece": 512}  # of an input
_ANSWER_TOKENS = 100  # of a teacher's vocabulary, for a rationale and an answer phrase
_CHARACTERS_PER_TOKEN = 4
_NEARLY_ALL = 0.98  # of the inputs are not cut
_MOST_CUT = 0.05  # of the inputs, if a quarter of the largest limit cuts no more than that limit
_MUCH_LONGER = 2  # times; a longest input that is no longer than that is not cut either
_TOKENS = 1_000_000  # of all steps together: about a minute on two cores at _SHORT
_SHORT, _DOUBLE = 128, 240  # INPUT_LENGTH; how much more of it makes a token as costly again
_STEPS = (100, 300)
_BATCH_SIZE, _LONG_BATCH_SIZE = 16, 8
_LONG_ROW = 600  # tokens of the sequences of a row, on average
_FIRST_ROWS = 2_000  # of a first run
_FEW_ROWS = 20  # below this, a tenth of the rows is too few for validation


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Limits of tokens, with what was measured.

    Attributes:
      input, target: INPUT_LENGTH and TARGET_LENGTH.
      input_comment, target_comment: what they are made from.
      cut: inputs that are longer than the limit.
    """

    input: int
    target: int
    input_comment: str
    target_comment: str
    cut: int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a first run trains.

    Attributes:
      steps, batch_size: TRAIN_STEPS and BATCH_SIZE.
      time: about how long that takes on two cores, such as "a minute".
    """

    steps: int
    batch_size: int
    time: str


def lengths_of(measured: Measured, vocabulary: Vocabulary, kind: str) -> Lengths:
    """The limits that fit the rows: all of them, unless a few are much longer than the others.

    A few inputs that the largest limit would cut as well do not make it much larger than the others
    need, as all training steps would be slower.

    Args:
      measured: the rows.
      vocabulary: that of the student.
      kind: the vocabulary's, "bytes" or "sentencepiece".
    """
    unit = "bytes" if kind == "bytes" else "tokens"
    longest, usual = measured.longest("input"), measured.percentile("input", 0.95)
    most = measured.percentile("input", _NEARLY_ALL)
    wanted = longest if longest <= _MUCH_LONGER * most else most
    limit = min(_rounded(wanted), _MOST_TOKENS.get(kind, _MOST_TOKENS["bytes"]))
    counts = measured.lengths["input"]
    cut = sum(count for length, count in counts.items() if length > limit)
    if 0 < cut <= _MOST_CUT * measured.rows:
        others = _rounded(max(length for length in counts if length <= limit))
        limit = others if 4 * others <= limit else limit
    comment = (
        f"In {unit}, with the prefix: 95% of the inputs have at most {usual:,}, the longest has "
        f"{longest:,}"
    )
    if cut:
        comment += f"; {share(cut, measured.rows, 'input')} {are(cut)} cut"
    characters = _ANSWER_TOKENS * _CHARACTERS_PER_TOKEN
    answer = characters if kind == "bytes" else round(1.25 * _ANSWER_TOKENS)
    found = {name: measured.longest(name) for name in ("label", "rationale")}
    rehearsed = len(vocabulary.encode(RATIONALE)) + 1
    target = _rounded(max(answer, rehearsed, *found.values()))
    texts = [f"the longest {name} has {n:,}" for name, n in found.items() if n]
    texts.append(f"a rationale of {_ANSWER_TOKENS} tokens of a teacher has about {answer:,}")
    return Lengths(limit, target, comment, f"In {unit}: {', '.join(texts)}", cut)


def schedule(measured: Measured, lengths: Lengths, vocabulary: Vocabulary) -> Schedule:
    """Steps that take about a minute on two cores, or longer if the texts are long."""
    rationale = measured.mean("rationale") or len(vocabulary.encode(RATIONALE)) + 1
    inputs = min(measured.mean("input"), lengths.input)
    row = 2 * inputs + measured.mean("label") + rationale
    batch_size = _BATCH_SIZE if row < _LONG_ROW else _LONG_BATCH_SIZE
    low, high = _STEPS
    # Each token attends to more others, and sequences are padded to more, if inputs may be longer.
    step = batch_size * row * max(1.0, 1 + (lengths.input - _SHORT) / (_SHORT + _DOUBLE))
    steps = min(high, max(low, round(_TOKENS / step / 50) * 50))
    minutes = round(steps * step / _TOKENS)
    return Schedule(steps, batch_size, f"{minutes} minutes" if minutes > 1 else "a minute")


def vocabulary_lines(kind: str, path: str, vocabulary: Vocabulary) -> str:
    """The lines of data.gin for the vocabulary of a student from random weights."""
    if kind == "sentencepiece":
        return (
            f"VOCABULARY = 'sentencepiece'\nVOCABULARY_PATH = {path!r}\n"
            f"VOCAB_SIZE = {padded_size(vocabulary.vocab_size)}"
        )
    return (
        "# Bytes cover every text. T5's pieces make shorter sequences: `distill new\n"
        "# --vocabulary_path=FILE` counts the lengths in them\n"
        f"VOCABULARY = 'bytes'\nVOCAB_SIZE = {padded_size(vocabulary.vocab_size)}"
    )


def num_labels(train_labeled: int) -> tuple[int, str]:
    """NUM_LABELS and its comment."""
    if train_labeled <= _FIRST_ROWS:
        return 0, "0: all rows"
    return _FIRST_ROWS, f"0: all {train_labeled:,} labeled rows; fewer make a first run short"


def validation_fraction(train_rows: int) -> float:
    """The share of the training rows that is held out for validation."""
    return 0.1 if train_rows >= _FEW_ROWS else 0.2


def prompt_values(
    name: str, labels: Sequence[str], measured: Measured, rows: Sequence[Example]
) -> dict[str, str]:
    """The values of prompt.toml.

    Args:
      name: of the task.
      labels: the closed set; () for open answers or if each row has choices of its own.
      measured: the rows.
      rows: the exemplars.
    """
    is_choice = not labels and measured.most_choices > 0
    if is_choice:
        parser, cue, what = "choice", "Question", "Choose the best of the choices."
        completion = "{rationale}\nAnswer: ({letter}) {label}"
    elif labels:
        parser, cue, completion = "label", "Text", "{rationale}\nAnswer: {label}"
        what = f"Choose the label of the text, one of: {', '.join(labels)}."
    else:
        parser, cue, completion = "free", "Text", "{rationale}\nAnswer: {label}"
        what = "Answer for the text as the examples show."
    lists_choices = is_choice and all("(a)" in row.input for row in rows)
    choices = "" if lists_choices or not is_choice else "\n{choices}"
    longest = max(map(len, [*measured.labels, *labels]), default=0)
    values: dict[str, str | int | Sequence[str]] = {
        "name": name,
        "parser": parser,
        "labels": labels,
        "instructions": f"{what} Give the reason in one sentence, then the answer.",
        "input": f"{cue}: {{input}}{choices}\nReason:",
        "completion": completion,
        "stops": ("\n\n", f"\n{cue}:"),
        "max_tokens": _ANSWER_TOKENS + math.ceil(longest / _CHARACTERS_PER_TOKEN),
    }
    written = {key: toml(value) for key, value in values.items()}
    return {**written, "exemplars": "\n".join(map(_exemplar, rows)) or _NO_EXEMPLARS}


_NO_EXEMPLARS = """\
# The rows have no gold labels to choose exemplars from. Add some in place of this line:
#   [[exemplars]]
#   input = "..."
#   rationale = "..."
#   label = "..."
exemplars = []"""


def _exemplar(row: Example) -> str:
    lines = ["", "[[exemplars]]", f"input = {toml(row.input)}"]
    if row.choices:
        lines.append(f"choices = {toml(row.choices)}")
    lines.append(f"rationale = {toml(f'{UNFILLED}: the reason, in one sentence')}")
    return "\n".join([*lines, f"label = {toml(row.label or '')}"])


def _rounded(tokens: int) -> int:
    """The next multiple of 16."""
    return max(16, -(-tokens // 16) * 16)
