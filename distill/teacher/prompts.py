"""Prompts: plain TOML files of instructions, exemplars, templates, stops and label set.

The paper (Hsieh et al. 2023, arXiv 2305.02301) prompts a language model with some ten
exemplars of input, rationale and label; its prompts were not released. Those of
`distill/teacher/prompts/` were written for this project.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from distill.common.text_files import check_file, read_text, read_toml
from distill.data.examples import Example, Failure
from distill.data.released import equations
from distill.data.released.completions import Completion
from distill.errors import UserError, hint, unknown
from distill.teacher.answers.forms import Reader
from distill.teacher.answers.rationales import chosen
from distill.teacher.answers.reading import cut_at_stops, read_up_to_stops
from distill.teacher.answers.schema import INSTRUCTION
from distill.teacher.answers.settings import Reading
from distill.teacher.answers.thoughts import split_thoughts
from distill.teacher.settings import Inputs

FOLDER = Path(__file__).resolve().parent / "prompts"
_OF_A_JOB = ("reading", "as_json")  # what a prompt's file does not say
_REQUIRED = ("name", "parser", "instructions", "exemplars", "input", "completion")
_EXPECTED = f"A prompt is a TOML file with {', '.join(_REQUIRED)}, e.g. {FOLDER / 'tickets.toml'}"
PARSERS = ("nli", "choice", "equation", "label", "free")
_SLOT = re.compile(r"\{(\w+)\}")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_LISTED = re.compile(r"^\(([a-z])\) (.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What a prompt's parser reads out of a completion.

    Attributes:
      said: label, rationale and failure.
      text: what was read: the answer without thoughts, up to a stop.
      is_cut: whether thoughts were cut to --reasoning_words.
    """

    said: Completion
    text: str
    is_cut: bool


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A few-shot prompt.

    Attributes:
      name: of the prompt, usually that of its dataset.
      parser: what reads a completion: "nli", "choice" (the row's choices), "equation",
        "label" (the closed set `labels`) or "free" (any text).
      labels: closed label set; empty where each row has its own or labels are free.
      instructions: what comes first (the system message of the chat form).
      exemplars: examples with `rationale` and `label`.
      input: template of a question, with {input}, {choices} and the groups of
        `input_pattern`; it ends in the cue after which the model writes.
      completion: template of an answer, with {rationale}, {label} and {letter}.
      stops: texts at which a completion ends.
      input_pattern: regular expression of a whole input with named groups, or "".
      max_tokens: longest completion.
      reading: how answers are read; not a field of the file.
      as_json: whether exemplars show answers as JSON; not a field of the file.
    """

    name: str
    parser: str
    labels: tuple[str, ...]
    instructions: str
    exemplars: tuple[Example, ...]
    input: str
    completion: str
    stops: tuple[str, ...] = ()
    input_pattern: str = ""
    max_tokens: int = 200
    reading: Reading = dataclasses.field(default_factory=Reading)
    as_json: bool = False

    def question(self, row: Example) -> str:
        """The text of one row, cue included.

        Raises:
          UserError: an input that `input_pattern` does not match.
        """
        parts = {"input": row.input}
        if "{choices}" in self.input:
            parts["choices"] = listed(self.choices_of(row))
        if self.input_pattern:
            match = _compiled(self.input_pattern).fullmatch(row.input)
            if match is None:
                raise UserError(
                    f"row {row.id}: the input does not match input_pattern of prompt "
                    f"{self.name!r} ({self.input_pattern}); correct the row or the prompt"
                )
            parts |= match.groupdict()
        return fill(self.input, parts)

    def answer(self, row: Example) -> str:
        """The completion that an exemplar shows."""
        if self.as_json:
            said = {"rationale": row.rationale or "", "answer": row.label or ""}
            return json.dumps(said, ensure_ascii=False)
        choices = [*self.choices_of(row)]
        letter = chr(ord("a") + choices.index(row.label)) if row.label in choices else ""
        parts = {"rationale": row.rationale or "", "label": row.label or "", "letter": letter}
        return fill(self.completion, parts)

    def messages(self, row: Example) -> list[dict[str, str]]:
        """The chat form: exemplars as turns."""
        return [*self._prefix_messages, {"role": "user", "content": self.question(row)}]

    def text(self, row: Example) -> str:
        """The completion form: one text."""
        return self._prefix_text + self.question(row)

    def parse(self, row: Example, completion: str) -> Completion:
        """Label, rationale and failure of a raw completion; see `read`."""
        return self.read(row, completion).said

    def read(self, row: Example, completion: str, thoughts: str = "") -> ReadAnswer:
        """Reads a raw completion.

        Thoughts are split off, and the answer is read up to the first stop, since some servers
        ignore stops. Half a surrogate pair, which JSON can carry and no text may hold, becomes
        U+FFFD.

        Args:
          row: whose completion it is.
          completion: the content of the response.
          thoughts: what the server returned beside it.
        """
        content, thoughts = (_HALF_PAIR.sub("\ufffd", text) for text in (completion, thoughts))
        split, how = split_thoughts(content, thoughts), self.reading
        said, text = read_up_to_stops(
            split.answer, self.reader(row), self.stops, self._cues, how.lenient_labels
        )
        rationale, is_cut = chosen(
            said.rationale, split.thoughts, how.rationale, how.reasoning_words
        )
        if rationale != said.rationale:
            failure = said.failure
            if failure in (None, Failure.NO_RATIONALE):
                failure = None if rationale or said.label is None else Failure.NO_RATIONALE
            said = dataclasses.replace(said, rationale=rationale, failure=failure)
        return ReadAnswer(said, text, is_cut)

    def parse_released(self, row: Example, completion: str) -> Completion:
        """Reads a completion as those of the paper's data are read: an answer phrase is needed."""
        return self.reader(row).released(cut_at_stops(completion.lstrip(), self.stops))

    def reader(self, row: Example) -> Reader:
        """What the answer to a row may be."""
        if self.parser in ("nli", "equation"):
            return Reader(self.parser)
        choices = self.choices_of(row)
        if self.parser == "free" or not choices:
            return Reader("free")
        return Reader("choice", choices, lettered=self.parser == "choice")

    def closed_set(self, row: Example) -> Sequence[str]:
        """The labels that a row may have, () if any text is one."""
        return self.reader(row).labels

    @functools.cached_property
    def _cues(self) -> tuple[str, ...]:
        """What the lines of a question start with: the fixed text that ends in a colon."""
        starts = (_SLOT.split(line)[0].strip() for line in self.input.split("\n"))
        return tuple(dict.fromkeys(start for start in starts if start.endswith(":")))

    def choices_of(self, row: Example) -> Sequence[str]:
        """The choices (a), (b), ... of a row: those its input lists, else its own, else `labels`.

        A choice that stands twice in the input stands twice here.
        """
        if self.parser == "choice" and "Answer Choices:" in row.input:
            return [text for _, text in _LISTED.findall(row.input)]
        return row.choices or self.labels

    def same(self, label: str, other: str) -> bool:
        """Whether two labels mean the same: equations by value, others to the letter."""
        if self.parser == "equation":
            return equations.same_value(label, other)
        return label.strip() == other.strip()

    @functools.cached_property
    def _prefix_messages(self) -> tuple[dict[str, str], ...]:
        instructions = [self.instructions, INSTRUCTION if self.as_json else ""]
        system = "\n\n".join(filter(None, instructions))
        turns = [{"role": "system", "content": system}] if system else []
        for row in self.exemplars:
            turns.append({"role": "user", "content": self.question(row)})
            turns.append({"role": "assistant", "content": self.answer(row)})
        return tuple(turns)

    @functools.cached_property
    def _prefix_text(self) -> str:
        exemplars = [f"{self.question(row)} {self.answer(row)}" for row in self.exemplars]
        return "".join(f"{part}\n\n" for part in (self.instructions, *exemplars) if part)

    def prefix(self, api: str) -> str:
        """All that comes before a row's own question, as text; decides digests."""
        return self._prefix_text if api == "completions" else json.dumps(self._prefix_messages)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


def listed(choices: Sequence[str]) -> str:
    """`(a) ...` lines of choices."""
    return "\n".join(f"({chr(ord('a') + i)}) {choice}" for i, choice in enumerate(choices))


def fill(template: str, parts: Mapping[str, object]) -> str:
    """The template with each {name} that `parts` has in place of its slot; no other syntax."""
    return _SLOT.sub(
        lambda m: str(parts[m.group(1)]) if m.group(1) in parts else m.group(), template
    )


def names() -> list[str]:
    """The prompts that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def name_for(inputs: Inputs) -> str:
    """The prompt that flags name: --prompt, or that of the dataset; "tickets" without rows.

    Raises:
      UserError: rows of your own without --prompt.
    """
    name = inputs.prompt or inputs.dataset or ("" if inputs.has_rows else "tickets")
    if not name:
        raise UserError(
            f"give a prompt with --prompt: {', '.join(names())}, or the path of your own .toml file"
        )
    return name


def load_prompt(name: str, reading: Reading | None = None, as_json: bool = False) -> Prompt:
    """A prompt by name or by path.

    Args:
      name: of a prompt that comes with the project, or the path of a TOML file.
      reading: how answers are read.
      as_json: whether exemplars show answers as JSON.

    Raises:
      UserError: no such prompt, or a file that is no prompt.
    """
    if "/" not in name and not name.endswith(".toml"):
        if name not in names():
            raise unknown("prompt", name, names(), "--prompt; or give the path of a .toml file")
        path = epath.Path(FOLDER / f"{name}.toml")
    else:
        path = epath.Path(name)
    check_file(path)
    fields = read_toml(read_text(path, _EXPECTED), str(path), _EXPECTED)
    prompt = _prompt(fields, str(path))
    return dataclasses.replace(prompt, reading=reading or Reading(), as_json=as_json)


def _prompt(fields: dict[str, Any], where: str) -> Prompt:
    fields_of_file = (one for one in dataclasses.fields(Prompt) if one.name not in _OF_A_JOB)
    known = {field.name: field.type for field in fields_of_file}
    for name, value in fields.items():
        if name not in known:
            raise UserError(f"{where}: unknown field {name!r}; {hint(name, known)}")
        expected: type = {"str": str, "int": int}.get(str(known[name]), list)
        if type(value) is not expected:
            raise UserError(f"{where}: got {value!r} for `{name}`, expected {expected.__name__}")
    for name in _REQUIRED:
        if name not in fields:
            raise UserError(
                f"{where}: `{name}` is missing; start from a copy of one of {', '.join(names())}"
            )
    if fields["parser"] not in PARSERS:
        raise unknown("parser", str(fields["parser"]), PARSERS, where)
    if fields.get("max_tokens", 1) < 1:
        raise UserError(f"{where}: got max_tokens = {fields['max_tokens']}, expected at least 1")
    pattern = str(fields.get("input_pattern", ""))
    try:
        groups = set(_compiled(pattern).groupindex)
    except re.error as error:
        raise UserError(
            f"{where}: input_pattern is not a valid regular expression ({error})"
        ) from error
    _check_slots(where, "input", str(fields["input"]), {"input", "choices"} | groups)
    _check_slots(where, "completion", str(fields["completion"]), {"rationale", "label", "letter"})
    texts = {name: _texts(fields.get(name, []), name, where) for name in ("labels", "stops")}
    exemplars = tuple(
        _exemplar(row, texts["labels"], f"{where}, exemplar {number}")
        for number, row in enumerate(fields["exemplars"], start=1)
    )
    settings: dict[str, Any] = {**fields, **texts, "exemplars": exemplars}
    settings["instructions"] = str(fields["instructions"]).strip()
    return Prompt(**settings)


def _exemplar(row: object, labels: tuple[str, ...], where: str) -> Example:
    if not isinstance(row, dict):
        raise UserError(f"{where}: got {row!r}, expected a table [[exemplars]]")
    fields: dict[str, object] = {"id": where, **row}
    choices_name = "`choices`"
    if labels and "choices" not in fields:
        fields["choices"], choices_name = list(labels), "`labels`"
    example = Example.from_dict(fields, where, choices_name)
    for name in ("label", "rationale"):
        if getattr(example, name) is None:
            raise UserError(
                f"{where}: `{name}` is missing; an exemplar needs a label and a rationale"
            )
    return example


def _check_slots(where: str, name: str, template: str, known: set[str]) -> None:
    for slot in _SLOT.findall(template):
        if slot not in known:
            raise UserError(
                f"{where}: `{name}` has an unknown slot {{{slot}}}; {hint(slot, known)}"
            )


def _texts(value: list[object], name: str, where: str) -> tuple[str, ...]:
    texts = tuple(text for text in value if isinstance(text, str) and text)
    if len(texts) < len(value):
        raise UserError(
            f"{where}: got {value!r} for `{name}`, expected a list of strings that are not empty"
        )
    return texts
