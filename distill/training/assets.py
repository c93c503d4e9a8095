"""What a student needs to answer besides parameters and configuration, as the run folder holds it.

<run_dir>/student.json    label set, answer rule, mark of the EOS token, form of the inputs, kind
                          and digest of the vocabulary
<run_dir>/vocabulary/     words.txt (one word per line) or sentencepiece.model; nothing for bytes
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from distill.common.atomic import write_bytes, write_json
from distill.common.digests import sha256
from distill.common.text_files import parse_json
from distill.config.data import VOCABULARIES, DataSpec
from distill.data import datasets
from distill.data.mapping.input_forms import FORMS, PLAIN
from distill.data.vocabularies import Vocabulary, make_vocabulary
from distill.errors import UserError
from distill.training import answer_rules
from distill.training.run_folder import STUDENT

VOCABULARY = "vocabulary"
FORMAT = 1
SENTENCEPIECE = "sentencepiece.model"
_FILES = {"words": "words.txt", "sentencepiece": SENTENCEPIECE}


@dataclasses.dataclass(frozen=True)
class Assets:
    """Vocabulary, labels and answer rule of a student.

    Attributes:
      kind: of the vocabulary, one of VOCABULARIES.
      path: its file, "" for bytes and for words that stand in no file yet.
      words: the words, for "words".
      labels: the closed label set, empty for open answers.
      rule: name of the answer rule (`datasets.rule_name`).
      eos_mark: the text within inputs that stands for the EOS token, "" for none.
      input_form: how a row's choices become part of its input (`distill.data.mapping.input_forms`).
    """

    kind: str
    path: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    rule: str
    eos_mark: str
    input_form: str = PLAIN

    @property
    def file_name(self) -> str:
        """Name of the vocabulary's file within a run folder's VOCABULARY; "" for bytes."""
        return _FILES.get(self.kind, "")

    def vocabulary(self) -> Vocabulary:
        """The vocabulary.

        Raises:
          UserError: see `vocabularies.make_vocabulary`.
        """
        return self._vocabulary

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        return make_vocabulary(self.kind, self.path, self.words)

    def correct(self, dataset: str) -> Callable[[str, str], bool] | None:
        """Whether an answer counts as the gold label; None if the rule is not known here."""
        return answer_rules.find_rule(self.rule, dataset)

    def content(self) -> bytes:
        """The vocabulary's file."""
        if self.kind == "words":
            return "".join(f"{word}\n" for word in self.words).encode()
        return epath.Path(self.path).read_bytes() if self.path else b""


def of_data(spec: DataSpec, words: Sequence[str] | None = None) -> Assets:
    """The assets of a run from its data and vocabulary.

    Args:
      spec: the run's data.
      words: for VOCABULARY = 'words'; None collects them from the dataset.

    Raises:
      UserError: unknown dataset, unreadable data.
    """
    dataset = datasets.get(spec.dataset)
    if spec.vocabulary != "words":
        words = ()
    elif words is None:
        words = datasets.vocabulary_words(spec)
    path = spec.vocabulary_path if spec.vocabulary == "sentencepiece" else ""
    labels, rule = tuple(dataset.labels(spec)), answer_rules.rule_name(dataset.correct)
    mark = dataset.eos_mark(spec)
    return Assets(spec.vocabulary, path, tuple(words), labels, rule, mark, dataset.input_form)


def write(folder: epath.Path, assets: Assets) -> None:
    """Writes the assets; student.json, which says that they are complete, last.

    Raises:
      UserError: the folder holds other assets.
    """
    vocabulary = {"kind": assets.kind}
    described = {
        "format": FORMAT,
        "vocabulary": vocabulary,
        "labels": list(assets.labels),
        "answer_rule": assets.rule,
        "eos_mark": assets.eos_mark,
        "input_form": assets.input_form,
    }
    if assets.file_name:
        path = folder / VOCABULARY / assets.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, assets.content())
        vocabulary["sha256"] = sha256(path)
    write_json(folder / STUDENT, described)


def check_same_assets(folder: epath.Path, assets: Assets) -> None:
    """Refuses assets that differ from those the folder holds, if it holds any.

    Raises:
      UserError: says what differs.
    """
    if not (folder / STUDENT).exists():
        return
    old = read(folder)
    if (old.kind, old.content()) != (assets.kind, assets.content()):
        source = assets.path or f"VOCABULARY = {assets.kind!r}"
        raise UserError(
            f"{folder} was trained with another vocabulary than {source} gives now "
            f"({len(old.content()):,} bytes in {folder / VOCABULARY}, {len(assets.content()):,} "
            "now); restore the source of the vocabulary, or choose another --run_dir"
        )
    for subject, before, now in (
        ("label set", old.labels, assets.labels),
        ("answer rule", old.rule, assets.rule),
        ("mark of the EOS token", old.eos_mark, assets.eos_mark),
    ):
        if before != now:
            raise UserError(
                f"{folder} was trained with the {subject} {before!r}, but it is now {now!r}; "
                "choose another --run_dir"
            )


def read(folder: epath.PathLike) -> Assets:
    """The assets of a run folder.

    Raises:
      UserError: a missing or damaged file, or one of a form that this version does not read.
    """
    folder = epath.Path(folder)
    described = _described(folder)
    path = folder / STUDENT
    kind = described["vocabulary"]["kind"]
    labels, rule = tuple(described["labels"]), described["answer_rule"]
    mark = described["eos_mark"]
    form = described.get("input_form", PLAIN)  # folders of before have none
    if kind not in _FILES:
        return Assets(kind, "", (), labels, rule, mark, form)
    file = folder / VOCABULARY / _FILES[kind]
    if not file.exists():
        raise UserError(f"{file} does not exist: copy the whole run folder, with its vocabulary")
    if sha256(file) != described["vocabulary"].get("sha256"):
        raise UserError(
            f"{file} is damaged: its digest is not the one in {path}; copy the run folder again"
        )
    words: tuple[str, ...] = ()
    if kind == "words":
        try:
            words = tuple(file.read_bytes().decode("utf-8").split())
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: not UTF-8 ({error.reason})") from None
    return Assets(kind, str(file), words, labels, rule, mark, form)


def read_answer_rule(folder: epath.PathLike) -> str:
    """The name of a run's answer rule (`answer_rules`); reads no other asset.

    Raises:
      UserError: as of `read`, for student.json.
    """
    rule: str = _described(epath.Path(folder))["answer_rule"]
    return rule


def _described(folder: epath.Path) -> dict[str, Any]:
    """The content of a run's student.json."""
    path = folder / STUDENT
    if not path.exists():
        raise UserError(
            f"{path} does not exist: {folder} is not a complete run folder (see distill train)"
        )
    return _parse(path)


def _parse(path: epath.Path) -> dict[str, Any]:
    """The content of student.json, once its form is known to be right."""
    try:
        described: dict[str, Any] = parse_json(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is not JSON; copy the run folder again") from None
    try:
        sound = (
            described["format"] == FORMAT
            and described["vocabulary"]["kind"] in VOCABULARIES
            and isinstance(described["labels"], list)
            and all(isinstance(label, str) for label in described["labels"])
            and isinstance(described["answer_rule"], str)
            and isinstance(described["eos_mark"], str)
            and described.get("input_form", PLAIN) in FORMS
        )
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(
            f"{path} does not describe a student in format {FORMAT}, the one that this version "
            "reads"
        )
    return described
