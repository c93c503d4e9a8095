"""A student's vocabulary as the tokenizer of a Hugging Face folder.

sentencepiece   spiece.model and tokenizer.json (Unigram), class T5Tokenizer
bytes           class ByT5Tokenizer, which has no file
words           tokenizer.json (WordLevel), class PreTrainedTokenizerFast

tokenizer.json is what the tokenizers library reads; it is JSON, so none of that library is needed
to write it. `AutoTokenizer` gives the ids of `vocabularies.encode_input` for all of them, but for
texts that contain the name of a special token, such as </s>, which it reads as that token.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from distill.common.atomic import write_bytes, write_json
from distill.data.vocabularies import (
    ByteVocabulary,
    PieceVocabulary,
    Vocabulary,
    WordVocabulary,
)
from distill.errors import UserError
from distill.export import piece_model

CONFIG, SPECIAL, TOKENIZER = "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"
PIECES = "spiece.model"
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_SENTINEL = re.compile("▁?<extra_id_([0-9]+)>")
# What separates words for str.split; the tokenizers library's own splitter lacks the first four.
_SEPARATORS = r"[\x1c-\x1f\s]+"


def write_tokenizer(
    folder: epath.Path, vocabulary: Vocabulary, rows: int, model: bytes, input_length: int
) -> list[str]:
    """Writes the files of a tokenizer.

    Args:
      folder: where they go.
      vocabulary: the student's.
      rows: of the embedding; bytes have names for all of them.
      model: content of the SentencePiece model, for a vocabulary of pieces.
      input_length: tokens that an input is cut at.

    Returns:
      The names of the files.

    Raises:
      UserError: a vocabulary that no tokenizer of Hugging Face has.
    """
    written = [CONFIG, SPECIAL]
    config: dict[str, Any] = {
        **SPECIAL_TOKENS,
        "model_max_length": input_length,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if isinstance(vocabulary, ByteVocabulary):
        sentinels = rows - vocabulary.vocab_size
        config |= {"tokenizer_class": "ByT5Tokenizer", "extra_ids": sentinels}
    elif isinstance(vocabulary, WordVocabulary):
        config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
        write_json(folder / TOKENIZER, _of_words(vocabulary))
        written.append(TOKENIZER)
    elif isinstance(vocabulary, PieceVocabulary):
        pieces, sentinels = _pieces(vocabulary)
        has_bytes = any(map(vocabulary.processor.IsByte, range(len(pieces))))
        if has_bytes:  # for which T5Tokenizer has no use
            config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
        else:
            config |= {"tokenizer_class": "T5Tokenizer", "extra_ids": sentinels, "legacy": True}
        try:
            characters = piece_model.character_map(model)
            plain = piece_model.with_first_pieces(model, len(pieces) - sentinels)
        except ValueError as error:
            raise UserError(f"{vocabulary.path} cannot be exported: {error}") from None
        write_bytes(folder / PIECES, plain)
        write_json(folder / TOKENIZER, _of_pieces(pieces, sentinels, characters, has_bytes))
        written += [PIECES, TOKENIZER]
    write_json(folder / CONFIG, config)
    write_json(folder / SPECIAL, SPECIAL_TOKENS)
    return written


def _pieces(vocabulary: PieceVocabulary) -> tuple[list[tuple[str, float]], int]:
    """Pieces with their scores, and how many of the last ones are sentinels.

    T5's model file ends with its sentinels, <extra_id_99> to <extra_id_0>; the tokenizer of
    Hugging Face adds them itself.
    """
    processor = vocabulary.processor
    ids = range(vocabulary.vocab_size)
    pieces = [(processor.IdToPiece(id_), processor.GetScore(id_)) for id_ in ids]
    sentinels = 0
    for piece, _ in reversed(pieces):
        match = _SENTINEL.fullmatch(piece)
        if match is None or int(match[1]) != sentinels:
            break
        sentinels += 1
    for index in range(sentinels):
        pieces[-1 - index] = (f"<extra_id_{index}>", 0.0)
    return pieces, sentinels


def _of_pieces(
    pieces: Sequence[tuple[str, float]], sentinels: int, characters: bytes, has_bytes: bool
) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece unigram model."""
    normalizer = None
    if characters:
        encoded = base64.b64encode(characters).decode()
        normalizer = {"type": "Precompiled", "precompiled_charsmap": encoded}
    names = [(len(pieces) - 1 - i, f"<extra_id_{i}>") for i in reversed(range(sentinels))]
    marker = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    split = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marker]}
    model = {"type": "Unigram", "unk_id": 2, "vocab": list(map(list, pieces))}
    decoder: dict[str, Any] = marker
    if has_bytes:
        parts = [{"type": "ByteFallback"}, marker]
        decoder = {"type": "Sequence", "decoders": parts}
    return _tokenizer(model | {"byte_fallback": has_bytes}, normalizer, split, decoder, names)


def _of_words(vocabulary: WordVocabulary) -> dict[str, Any]:
    """tokenizer.json of whole words."""
    special = list(SPECIAL_TOKENS.values())
    for word in vocabulary.words:
        if word in special:
            raise UserError(
                f"the vocabulary of the run has the word {word!r}, which is the name of a special "
                "token in a Hugging Face folder: such a student cannot be exported there; train "
                "with VOCABULARY = 'bytes' or 'sentencepiece'"
            )
    ids = {word: index for index, word in enumerate([*special, *vocabulary.words])}
    model = {"type": "WordLevel", "vocab": ids, "unk_token": SPECIAL_TOKENS["unk_token"]}
    pattern = {"Regex": _SEPARATORS}
    split = {"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": False}
    return _tokenizer(model, None, split, None, [])


def _tokenizer(
    model: Mapping[str, Any],
    normalizer: Mapping[str, Any] | None,
    pre_tokenizer: Mapping[str, Any],
    decoder: Mapping[str, Any] | None,
    sentinels: Sequence[tuple[int, str]],
) -> dict[str, Any]:
    """tokenizer.json, which puts EOS after a text; pad, EOS and unknown are ids 0, 1 and 2."""
    eos = SPECIAL_TOKENS["eos_token"]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    end = {"SpecialToken": {"id": eos, "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 0}}
    added = [*enumerate(SPECIAL_TOKENS.values()), *sentinels]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": t, **flags, "special": True} for i, t in added],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, end],
            "pair": [text, end, second, end],
            "special_tokens": {eos: {"id": eos, "ids": [1], "tokens": [eos]}},
        },
        "decoder": decoder,
        "model": model,
    }
