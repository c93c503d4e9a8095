"""Whether a run has something to train on: labels that are not cut, and rationales."""

from __future__ import annotations

from distill.common.phrases import are, have, number_of, share
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.budget import label_of
from distill.data.counts.data_line import fitting
from distill.data.vocabularies import Vocabulary, encode_input
from distill.errors import UserError

_RATIONALE = 2  # tokens that a rationale has at least, EOS included
_MOST_KEPT = 10_000  # labels whose lengths are kept


def check_targets(spec: DataSpec, splits: datasets.Splits, vocabulary: Vocabulary) -> None:
    """Refuses rows without the targets that the method trains on.

    Args:
      spec: the settings.
      splits: the rows.
      vocabulary: of the targets.

    Raises:
      UserError: no training row has a rationale, and the method has a task of them; an
        INPUT_LENGTH without room for more than a prefix; labels that TARGET_LENGTH would cut, or
        after which no rationale has room, with the length that holds all.
    """
    if "rationale" in spec.tasks and not any(row.rationale for row in splits.train):
        other = "finetune" if spec.label_source == "gold" else "distill_labels"
        how = "add `rationale` to the rows"
        if "fields" in spec.dataset_options:
            how += ", map the field that holds it in FIELDS"
        raise UserError(
            f"none of the {number_of(len(splits.train), 'training row')} has a rationale, which "
            f"METHOD = {spec.method!r} trains on: {how}, or train without them, with "
            f"--gin_file=gin/methods/{other}.gin"
        )
    _check_input_length(spec, vocabulary)
    if not spec.about_method.rationale_first:  # else the label ends a text that may be cut
        _check_label_lengths(spec, splits, vocabulary)


def _check_input_length(spec: DataSpec, vocabulary: Vocabulary) -> None:
    """Refuses an INPUT_LENGTH that the prefix of a task fills: all inputs would be equal."""
    longest = max((spec.prefix(task) for task in spec.tasks), key=len)
    tokens = len(encode_input(vocabulary, longest))
    if tokens >= spec.input_length:
        raise UserError(
            f"got INPUT_LENGTH = {spec.input_length}, expected more than {tokens}: the prefix "
            f"{longest!r} alone has {number_of(tokens, 'token')}"
        )


def _check_label_lengths(spec: DataSpec, splits: datasets.Splits, vocabulary: Vocabulary) -> None:
    lengths: dict[str, int] = {}
    count, longest, too_long, first = 0, 0, 0, ""
    for split in datasets.SPLITS:
        source = "gold" if split == "test" else spec.label_source
        for row in splits[split]:
            safe_point()
            label = label_of(row, source) or ""
            tokens = lengths.get(label) or len(vocabulary.encode(label)) + 1
            if len(lengths) < _MOST_KEPT:
                lengths[label] = tokens
            needed = tokens + (_RATIONALE if spec.is_joined and row.rationale else 0)
            count, longest = count + 1, max(longest, needed)
            if needed > spec.target_length:
                too_long += 1
                first = first or f"row {row.id}, has {tokens} tokens"
    if not too_long:
        return
    told = share(too_long, count, "label")
    if spec.is_joined:
        problem = f"{have(too_long, 'leaves', 'leave')} no room for a rationale in"
    else:
        problem = f"{are(too_long)} longer than"
    which = "it" if too_long == 1 else "the first"
    raise UserError(
        f"{told} {problem} TARGET_LENGTH = {spec.target_length} tokens ({which}, the label of "
        f"{first}); {fitting('TARGET_LENGTH', longest)}"
    )
