"""Rows of several teachers, read from the released layout, have the weights of docs/methods.md."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.data.counts.data_line import data_lines, summarize_data
from distill.engines.t5x import check as t5x_check
from distill.errors import UserError

# What each teacher says of a row: a completion may be missing, or have no answer or no rationale.
PALM = ["One. The answer is (1 + 1).", "", "Three is (3", "Four. The answer is (4 - 0).", ""]
NEOX = [
    "Or so. The answer is (2 + 0).",
    "Two. The answer is (1 * 2).",
    "Six. The answer is (6 / 2).",
]
NEOX += ["Four. The answer is (4 * 1).", "The answer is (5 + 0)."]
RATIONALES = [["One.", "Or so."], ["Two."], ["Six."], ["Four."], []]
N, S = 6, 5  # training rows, rows


def inputs_of(number: int) -> str:
    return f"He has {number + 1} boxes.\nHow many in all?"


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory) -> pathlib.Path:
    """SVAMP of five training rows and one test row, with both teachers' completions."""
    folder = tmp_path_factory.mktemp("released")
    for teacher in ("svamp/llm", "gpt-neox/svamp"):
        (folder / teacher).mkdir(parents=True)
    for split, numbers in (("train", range(S)), ("test", [7])):
        rows = [{"input": inputs_of(n), "label": f"( {n + 1}.0 + 0.0 )"} for n in numbers]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "svamp" / f"svamp_{split}.json").write_text(text)
        palm, neox = (said[: len(rows)] for said in (PALM, NEOX))
        (folder / "svamp" / "llm" / f"{split}_CoT_0.json").write_text(json.dumps(palm))
        (folder / "gpt-neox" / "svamp" / f"{split}.json").write_text(json.dumps(neox))
    return folder


@pytest.fixture(scope="module")
def resolved(micro, raw_dir):
    """(settings, engine) -> the configuration of both teachers on these rows."""

    def of(*settings, engine="native"):
        tiny = [text for text in micro if not text.startswith(("NUM_ROWS", "NUM_TEST"))]
        fixed = (f"RAW_DIR={raw_dir}", "VOCABULARY=bytes", "VOCAB_SIZE=264", "INPUT_LENGTH=64")
        names = ["svamp_mini_step_by_step", "gin/data/two_teachers.gin"]
        labels = ("NUM_LABELS=0", "VALIDATION_FRACTION=0.0", f"BATCH_SIZE={N}")
        return resolve.resolve(names, (*tiny, *fixed, *labels, *settings), engine)

    return of


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_the_rationales_of_a_row_count_one_over_m(normalization, resolved):
    run = resolved(f"NORMALIZATION={normalization}").run
    stream = BatchStream(caches.load_cache(run.data), run.data, run.weighting, N, 0)

    def tokens(text):
        return (*(byte + 3 for byte in text.encode()), 1)

    def mean(texts_by_m):
        """Mean length of the targets of a task; those of a row count 1/m each."""
        total = sum(len(tokens(text)) / m for m, text in texts_by_m)
        return total / sum(1 / m for m, _ in texts_by_m)

    terms: list[tuple[str, str, int, str]] = []
    for number, said in enumerate(RATIONALES):
        question, m = inputs_of(number), max(len(said), 1)
        for rationale in said or [None]:
            terms.append(("label", f"[label] {question}", m, f"( {number + 1}.0 + 0.0 )"))
            if rationale:
                terms.append(("rationale", f"[rationale] {question}", m, rationale))
    expected = []
    for task, inputs, m, target in terms:
        length = len(tokens(target))
        if normalization == "per_token":
            length = mean([(each[2], each[3]) for each in terms if each[0] == task])
        expected.append((tokens(inputs), tokens(target), N / S / m / length))
    found = [
        (tuple(one.inputs.tolist()), tuple(one.targets.tolist()), one.weight)
        for one in stream._sequences(0)
    ]
    assert len(found) == N + 5
    for one, other in zip(sorted(found), sorted(expected), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_allclose(one[2], other[2], rtol=1e-6)


def test_the_data_line_counts_the_rows_of_several_rationales(resolved):
    run = resolved().run
    (line, *warnings) = data_lines(
        run.data, summarize_data(run.data, caches.load_cache(run.data).meta)
    )
    told = (
        "1 of 5 rows (20.0%) has several rationales (m = 1 to 2), each a training row that counts"
    )
    assert f"data: {N} training rows" in line and told in line
    assert any("1 of 5 labeled rows (20.0%) has no rationale" in text for text in warnings)


def test_teacher_labels_are_those_of_the_first(resolved):
    spec = resolved(
        "METHOD=distill_labels", "LABEL_SOURCE=teacher", "LABEL_WEIGHT=1.0", "RATIONALE_WEIGHT=0.0"
    ).run.data
    cache = caches.load_cache(spec)
    assert sorted(row.teacher_label for row in cache.rows["train"]) == ["(1 + 1)", "(4 - 0)"]
    assert cache.meta["counts"]["reasons"] == {"no_completion": 2, "no_answer": 1}


def test_t5x_is_refused(resolved):
    run = resolved(engine="t5x").run
    with pytest.raises(
        UserError, match="got rows with 1 to 2 rationales for METHOD = 'step_by_step'"
    ):
        t5x_check.check_rationales(run.data, caches.load_cache(run.data))
