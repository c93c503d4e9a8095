"""What a SentencePiece model file holds beyond what the library tells: read from its bytes.

A model is a protocol buffer, `ModelProto` of sentencepiece_model.proto: field 1 is a piece and is
repeated, field 3 is the normalizer's, of which field 2 is a table of characters. Only the layout of
fields is read here; the sentencepiece library has parsed the same bytes before.
"""

from __future__ import annotations

from collections.abc import Iterator

_PIECE, _NORMALIZER, _CHARACTERS = 1, 3, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def character_map(model: bytes) -> bytes:
    """The normalizer's compiled table of characters; empty if it has none."""
    found = b""
    for number, _, value in _fields(model):
        if number == _NORMALIZER:
            for inner, _, content in _fields(value):
                if inner == _CHARACTERS:
                    found = content
    return found


def with_first_pieces(model: bytes, count: int) -> bytes:
    """The model with its first pieces only.

    Args:
      model: the bytes of a model.
      count: number of pieces to keep, if it has as many.
    """
    kept, pieces = [], 0
    for number, whole, _ in _fields(model):
        pieces += number == _PIECE
        if number != _PIECE or pieces <= count:
            kept.append(whole)
    return b"".join(kept)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole bytes and content of each field; the content of numbers is not decoded.

    Raises:
      ValueError: bytes that are no message.
    """
    place = 0
    while place < len(message):
        start = place
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _BYTES:
            length, place = _varint(message, place)
            content = message[place : place + length]
            place += length
        elif kind == _VARINT:
            content = b""
            _, place = _varint(message, place)
        elif kind in (_FIXED64, _FIXED32):
            content = b""
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"no protocol buffer: field of kind {kind} at byte {start}")
        if place > len(message):
            raise ValueError("no protocol buffer: it ends within a field")
        yield key >> 3, message[start:place], content


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("no protocol buffer: it ends within a number")
