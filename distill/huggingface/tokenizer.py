"""The vocabulary of a Hugging Face folder, compared with the one that a run's data have.

A folder of T5, T5 v1.1, Flan-T5 or mT5 has `spiece.model`, a SentencePiece model, or only
`tokenizer.json`, which lists its pieces. A folder of byT5 has neither: its tokenizer_config.json
names a class.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sentencepiece
from etils import epath

from distill.common.text_files import parse_json, read_bytes
from distill.errors import UserError

SPIECE, TOKENIZER, SETTINGS = "spiece.model", "tokenizer.json", "tokenizer_config.json"
_BYTE_CLASSES = ("ByT5Tokenizer",)
# Upper and lower case, digits, punctuation, runs of blanks, letters and signs outside of ASCII,
# among them some that normalization changes and some that few models have.
PROBE = (
    "translate English to German: That is good.",
    "Is 12,345.67 more than 9 + 8 x 7? (Yes/No) {a_b} [c]; 'd' \"e\" ~ #1 50% $3 @f & g",
    "The QUICK brown fox  jumps,over\tthe lazy dog!",
    "Größe, naïve café, żółw, Ελλάδα, Москва, 東京, العربية, ﬁne ① ½ … — “x”",
)
_SENTINEL = "<extra_id_{}>"
_BLANK = "\u2581"  # SentencePiece's mark of a blank
_CLOSE = 1e-4  # between scores of pieces, which files hold with different precision
_SPECIAL = 3  # ids of padding, EOS and unknown
_FIX = "The parameters fit only the vocabulary that they were trained with"
_OWN_FILE = "set --vocabulary_path to the SentencePiece model of the checkpoint, or leave it out"


class Encoder(Protocol):
    """What is needed of a vocabulary (`distill.data.vocabularies.Vocabulary`)."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without EOS."""


def vocabulary_of(folder: epath.PathLike) -> tuple[str, str]:
    """Kind and file of a folder's vocabulary.

    Args:
      folder: local or gs://.

    Returns:
      ("sentencepiece", its spiece.model), ("sentencepiece", "") with only tokenizer.json, ("bytes",
      "") of byT5, ("words", "") of an exported student with whole words, ("", "") where the folder
      does not say.

    Raises:
      UserError: a file that does not parse.
    """
    folder = epath.Path(folder)
    if (folder / SPIECE).exists():
        return "sentencepiece", os.fspath(folder / SPIECE)
    if _settings(folder).get("tokenizer_class") in _BYTE_CLASSES:
        return "bytes", ""
    if (folder / TOKENIZER).exists():
        return ("words" if _words(folder / TOKENIZER) else "sentencepiece"), ""
    return "", ""


def check_vocabulary(
    folder: epath.PathLike, kind: str, vocabulary: Encoder, given: str = ""
) -> str | None:
    """Compares a folder's vocabulary with that of a run's data.

    Args:
      folder: the Hugging Face folder.
      kind: VOCABULARY.
      vocabulary: what the data are tokenized with.
      given: VOCABULARY_PATH, for messages.

    Returns:
      A line to show where nothing could be compared; None if all agree.

    Raises:
      UserError: they differ; names both and the first text with other ids.
    """
    folder = epath.Path(folder)
    expected, path = vocabulary_of(folder)
    if not expected:
        return (
            f"{folder} has no {SPIECE} and no {TOKENIZER}: whether VOCABULARY = {kind!r} is its "
            "vocabulary was not checked"
        )
    if kind != expected:
        raise UserError(
            f"got VOCABULARY = {kind!r}, but {folder} was trained with {expected!r} "
            f"({os.path.basename(path) or _evidence(expected)}). {_FIX}: set VOCABULARY = "
            f"{expected!r}{', or leave it out' if path or expected == 'bytes' else ''}"
        )
    if expected == "words":
        _check_words(folder / TOKENIZER, vocabulary)
    elif path:
        _check_model(epath.Path(path), vocabulary, given)
    elif expected == "sentencepiece":
        _check_table(folder / TOKENIZER, vocabulary, given)
    return None


def _words(path: epath.Path) -> dict[str, int]:
    """The words of tokenizer.json and their ids; {} if it has pieces of words."""
    model = _read_object(path).get("model")
    if not isinstance(model, Mapping) or model.get("type") != "WordLevel":
        return {}
    words = model.get("vocab")
    return dict(words) if isinstance(words, Mapping) else {}


def _check_words(path: epath.Path, vocabulary: Encoder) -> None:
    """Compares each word's id; a run with VOCABULARY = 'words' takes its words from its rows."""
    theirs = [(id_, word) for word, id_ in _words(path).items() if id_ >= _SPECIAL]
    ours = [*enumerate(getattr(vocabulary, "words", ()), start=_SPECIAL)]
    if sorted(theirs) != ours:
        differing = sorted({*theirs} ^ {*ours}, key=str)[0][1]
        raise UserError(
            f"{path} has other words than the rows of this run, such as {differing!r}. {_FIX}: "
            "train on the rows of the exported student, or start without the checkpoint"
        )


def _evidence(expected: str) -> str:
    return SETTINGS if expected == "bytes" else TOKENIZER


def _check_model(path: epath.Path, vocabulary: Encoder, given: str) -> None:
    """Compares ids of PROBE, and of sentinels, with those of a SentencePiece model."""
    content = read_bytes(path)
    try:
        theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
    except Exception as error:  # the loader's errors differ from version to version
        raise UserError(
            f"{path} is not a SentencePiece model: download or copy it again"
        ) from error
    count = theirs.GetPieceSize()
    _check_pieces(
        [(theirs.IdToPiece(i), theirs.GetScore(i)) for i in range(count)], path, vocabulary, given
    )
    for text in PROBE:
        _compare(text, theirs.EncodeAsIds(text), vocabulary.encode(text), path, given)
    has_sentinels = _is_sentinel(theirs.IdToPiece(count - 1))
    for index in (0, 1, 99):
        text = _SENTINEL.format(index)
        # Hugging Face's tokenizers number sentinels down from the last id, which is theirs.
        expected = theirs.EncodeAsIds(text) if has_sentinels else [count + 99 - index]
        ours = vocabulary.encode(text)
        if len(ours) == 1 or has_sentinels:
            _compare(text, expected, ours, path, given)


def _check_table(path: epath.Path, vocabulary: Encoder, given: str) -> None:
    """Compares the pieces of tokenizer.json, and where its library is there, ids of PROBE."""
    _check_pieces(_pieces(path), path, vocabulary, given)
    if importlib.util.find_spec("tokenizers") is not None:
        from tokenizers import Tokenizer

        theirs = Tokenizer.from_str(read_bytes(path).decode("utf-8"))
        for text in PROBE:
            expected = theirs.encode(text, add_special_tokens=False).ids
            _compare(text, expected, vocabulary.encode(text), path, given)


def _check_pieces(
    table: Sequence[tuple[str, float]], path: epath.Path, vocabulary: Encoder, given: str
) -> None:
    """Compares pieces and scores by id; sentinels at the end may be missing in one of the two."""
    processor = getattr(vocabulary, "processor", None)  # of a SentencePiece vocabulary
    if processor is None:
        return
    size = processor.GetPieceSize()
    ours = [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(size)]
    named = given or "the vocabulary of the data"
    for index, (theirs, own) in enumerate(zip(table, ours, strict=False)):
        if theirs[0].strip(_BLANK) == own[0].strip(_BLANK) and _is_sentinel(own[0]):
            continue
        is_special = index < _SPECIAL  # they have no score of their own
        is_close = is_special or math.isclose(theirs[1], own[1], abs_tol=_CLOSE)
        if theirs[0] != own[0] or not is_close:
            raise UserError(
                f"{path} has the piece {theirs[0]!r} (score {theirs[1]:.4g}) at id {index}, but "
                f"{named} has {own[0]!r} (score {own[1]:.4g}). {_FIX}: {_OWN_FILE}"
            )
    rest = [*table[size:], *ours[len(table) :]]
    if not all(_is_sentinel(piece) for piece, _ in rest):
        raise UserError(
            f"{path} has {len(table):,} pieces, but {named} has {size:,}. {_FIX}: {_OWN_FILE}"
        )


def _is_sentinel(piece: str) -> bool:
    return "<extra_id_" in piece


def _pieces(path: epath.Path) -> list[tuple[str, float]]:
    """The pieces and scores of tokenizer.json in the order of their ids, sentinels included."""
    content = _read_object(path)
    model = content.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or kind != "Unigram":
        raise UserError(
            f"{path}: got a tokenizer of type {kind!r}, expected 'Unigram', the type of T5's"
        )
    try:
        table = [(str(piece), float(score)) for piece, score in model["vocab"]]
        added = {int(each["id"]): str(each["content"]) for each in content["added_tokens"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not list its pieces: download or copy it again") from error
    while len(table) in added:
        table.append((added[len(table)], 0.0))
    return table


def _compare(
    text: str, expected: Sequence[int], ours: Sequence[int], path: epath.Path, given: str
) -> None:
    if list(expected) == list(ours):
        return
    raise UserError(
        f"{path} encodes {text!r} as {_short(expected)}, but "
        f"{given or 'the vocabulary of the data'} as {_short(ours)}. {_FIX}: {_OWN_FILE}"
    )


def _short(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return f"[{shown}{', ...' if len(ids) > 8 else ''}]"


def _settings(folder: epath.Path) -> Mapping[str, Any]:
    """tokenizer_config.json, or what older folders have of it in config.json."""
    for name in (SETTINGS, "config.json"):
        if (folder / name).exists():
            content = _read_object(folder / name)
            if "tokenizer_class" in content:
                return content
    return {}


def _read_object(path: epath.Path) -> Mapping[str, Any]:
    try:
        content = parse_json(read_bytes(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): download or copy it again") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content
