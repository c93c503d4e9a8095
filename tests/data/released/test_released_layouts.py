"""CQA, SVAMP, ASDiv and the GPT-NeoX folder are read whole, or refused by name."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.released import reader
from distill.data.released.rows import KINDS
from distill.errors import UserError
from tasks import anli1, cqa, svamp

ROWS = {
    "cqa": {
        "question": "Where do  boats rest?",
        "choices": ["sea", "harbour", "sea", "sky", "lake  shore"],
        "answer": "lake  shore",
    },
    "svamp": {"input": "He has 3 boxes of 4.\nHow many in all?", "label": "( 3.0 * 4.0 )"},
    "asdiv": {"Body": "He has 3 boxes of 4.", "Question": "How many?", "Answer": "12 (toys)"},
    "anli1": {"premise": "A man eats.", "hypothesis": "He dines.", "label": 0, "uid": "u"},
}
SAID = {
    "cqa": "By the lake. So the answer is (e) lake shore.\n\nQ: What?",
    "svamp": "Three times four. The answer is (6 + 6).\n\nQ: What?",
    "asdiv": "Three times four. The answer is (3 * 4).",
    "anli1": "Eating is dining. So the answer is entailment.",
}


def write(
    folder: pathlib.Path, dataset: str, split: str, rows: int = 2, teacher: str = "palm", **change
) -> pathlib.Path:
    """An invented split of equal rows, one part of completions."""
    (folder / dataset / "llm").mkdir(parents=True, exist_ok=True)
    text = json.dumps(ROWS[dataset] | change)
    (folder / dataset / f"{dataset}_{split}.json").write_text(f"{text}\n" * rows)
    completions = folder / dataset / "llm" / f"{split}_CoT_0.json"
    if teacher == "gpt-neox":
        completions = folder / "gpt-neox" / dataset / f"{split}.json"
        completions.parent.mkdir(parents=True, exist_ok=True)
    completions.write_text(json.dumps([SAID[dataset]] * 2))
    return folder


def spec(dataset: str, **options) -> DataSpec:
    return DataSpec(
        dataset=dataset, method="step_by_step", validation_fraction=0, dataset_options=options
    )


def test_cqa_lists_its_choices_in_the_input_and_reads_letters_beside_them(tmp_path):
    row, _ = reader.read_released(write(tmp_path, "cqa", "train"), "cqa", "train")
    assert row.input == (
        "Where do boats rest?\nAnswer Choices:\n(a) sea\n(b) harbour\n(c) sea\n(d) sky\n"
        "(e) lake shore"
    )
    assert row.choices == ("sea", "harbour", "sky", "lake shore")
    assert row.label == row.teacher_label == "lake shore"
    assert (row.rationale, row.failure, row.id) == ("By the lake.", None, "cqa/train/0")


@pytest.mark.parametrize("dataset", ["svamp", "asdiv"])
def test_equations_are_right_by_value(tmp_path, dataset):
    rows = reader.read_released(write(tmp_path, dataset, "test"), dataset, "test")
    assert rows[0].input.startswith("He has 3 boxes of 4.\nHow many")
    assert rows[0].label == {"svamp": "( 3.0 * 4.0 )", "asdiv": "12"}[dataset]
    assert reader.summary(rows)["teacher_accuracy_all"] == 0
    assert reader.summary(rows, KINDS[dataset].correct)["teacher_accuracy_all"] == 1


def test_asdiv_may_have_the_fields_of_svamp_and_answers_that_are_no_numbers(tmp_path):
    write(tmp_path, "asdiv", "train", Answer="8:00 (o'clock)")
    assert reader.read_released(tmp_path, "asdiv", "train")[0].label == "8:00"
    line = json.dumps(ROWS["svamp"])
    (tmp_path / "asdiv" / "asdiv_train.json").write_text(f"{line}\n{line}\n")
    assert reader.read_released(tmp_path, "asdiv", "train")[0].label == "( 3.0 * 4.0 )"


@pytest.mark.parametrize("dataset", ["cqa", "svamp", "anli1"])
def test_gpt_neox_completions_are_one_file_a_split(tmp_path, dataset):
    write(tmp_path, dataset, "train", teacher="gpt-neox")
    rows = reader.read_released(tmp_path, dataset, "train", "gpt-neox")
    assert rows[1].teacher_label and rows[1].rationale and not rows[1].failure
    files = reader.files_of(tmp_path, dataset, "train", "gpt-neox")
    assert [pathlib.Path(file).name for file in files] == [f"{dataset}_train.json", "train.json"]
    with pytest.raises(UserError, match=r"llm/train_CoT_0\.json does not exist"):
        reader.read_released(tmp_path, dataset, "train", "palm")
    with pytest.raises(UserError, match=r"gpt-neox/\w+/test\.json does not exist"):
        write(tmp_path, dataset, "test")
        reader.read_released(tmp_path, dataset, "test", "gpt-neox")


def test_rationales_of_both_teachers_are_those_that_parsed(tmp_path):
    """Label and failure are those of the first teacher; equal rationales are one."""
    write(tmp_path, "svamp", "train", rows=5)
    ok, more = "Twelve. The answer is (3 * 4).", "Add them. The answer is (6 + 6)."
    said = {
        "svamp/llm/train_CoT_0.json": [ok, ok, "", ok, " "],
        "gpt-neox/svamp/train.json": [more, ok, more, "Broken off", "The answer is (12 + 0)."],
    }
    for name, texts in said.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(texts))

    def read(*teachers):
        rows = reader.read_released(tmp_path, "svamp", "train", teachers)
        return [
            (row.teacher_label, row.rationale, row.more_rationales, row.failure) for row in rows
        ]

    one, two = "Twelve.", "Add them."
    assert read("palm", "gpt-neox") == [
        ("(3 * 4)", one, (two,), None),
        ("(3 * 4)", one, (), None),
        (None, two, (), "no_completion"),
        ("(3 * 4)", one, (), None),
        (None, None, (), "no_completion"),
    ]
    assert read("gpt-neox", "palm")[0] == ("(6 + 6)", two, (one,), None)
    for teacher in reader.TEACHERS:
        alone = reader.read_released(tmp_path, "svamp", "train", teacher)
        assert alone == reader.read_released(tmp_path, "svamp", "train", [teacher])
    files = reader.files_of(tmp_path, "svamp", "train", ["gpt-neox", "palm"])
    names = ["svamp/svamp_train.json", "gpt-neox/svamp/train.json", "svamp/llm/train_CoT_0.json"]
    assert files == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (("palm", "neox"), r"unknown teacher 'neox' \(set by macro RAW_TEACHER\).*: gpt-neox"),
        (
            (),
            r"got RAW_TEACHER = \(\), expected 'palm' or 'gpt-neox', or both: \('palm', 'gpt-neox",
        ),
        (("palm", "palm"), r"got RAW_TEACHER = \('palm', 'palm'\), expected"),
        (3, "got RAW_TEACHER = 3, expected"),
        ("palm,gpt-neox", r"got RAW_TEACHER = 'palm,gpt-neox', expected .* or both: \('palm', "),
        ({"palm": 1}, "got RAW_TEACHER = .*, expected"),
        (("palm", 3), "unknown teacher '3'"),
    ],
)
def test_raw_teacher_is_checked_before_files_are_read(tmp_path, value, message):
    for dataset, module in (("cqa", cqa), ("svamp", svamp), ("anli1", anli1)):
        split = {"raw_split": "train", "test_fraction": 0.2} if dataset == "anli1" else {}
        with pytest.raises(UserError, match=message):
            module.DATASET.check(spec(dataset, raw_dir=tmp_path, raw_teacher=value, **split))


@pytest.mark.parametrize("teacher", [*reader.TEACHERS, reader.TEACHERS])
def test_numbers_of_rows_and_completions_are_both_named(tmp_path, teacher):
    for each in (teacher,) if isinstance(teacher, str) else teacher:
        write(tmp_path, "svamp", "train", rows=3, teacher=each)
    with pytest.raises(UserError, match=r"svamp_train\.json has 3 rows, .* has 2 completions"):
        reader.read_released(tmp_path, "svamp", "train", teacher)


BAD = {
    ("cqa", "answer"): ("moon", r"cqa_test\.json:1: got answer 'moon', expected .*harbour"),
    ("cqa", "choices"): ([1], r"cqa_test\.json:1: got \[1\] for `choices`"),
    ("cqa", "question"): (" ", r"cqa_test\.json:1: got ' ' for `question`"),
    ("svamp", "label"): ("( 3.0 /", r"svamp_test\.json:1: got label '\( 3\.0 /' \(unbalanced"),
    ("svamp", "input"): (None, r"svamp_test\.json:1: got None for `input`"),
    ("asdiv", "Answer"): (12, r"asdiv_test\.json:1: got 12 for `Answer`"),
}


@pytest.mark.parametrize(("dataset", "field"), BAD)
def test_bad_rows_are_named(tmp_path, dataset, field):
    value, message = BAD[dataset, field]
    write(tmp_path, dataset, "test", **{field: value})
    with pytest.raises(UserError, match=message):
        reader.read_released(tmp_path, dataset, "test")


def test_names_and_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"asdiv_train\.json does not exist; .* --raw_dir"):
        reader.read_released(tmp_path, "asdiv", "train")
    with pytest.raises(UserError, match=r"unknown split 'valid'.*dataset cqa"):
        reader.read_released(tmp_path, "cqa", "valid")
    with pytest.raises(UserError, match=r"unknown teacher 'neox'.*closest: gpt-neox"):
        reader.read_released(tmp_path, "cqa", "train", "neox")


def test_tasks_read_train_and_test_and_count_by_their_own_rule(tmp_path):
    for dataset in ("cqa", "svamp"):
        for split in ("train", "test"):
            write(tmp_path, dataset, split)
    train, test = cqa.DATASET.load(spec("cqa", raw_dir=tmp_path))
    assert (train[0].split, test[0].split) == ("train", "test")
    assert not cqa.DATASET.correct("(6 + 6)", "( 3.0 * 4.0 )")
    assert svamp.DATASET.correct("(6 + 6)", "( 3.0 * 4.0 )")
    splits = datasets.load_splits(spec("svamp", raw_dir=tmp_path))
    assert (len(splits.train), len(splits.test)) == (2, 2)
    assert len(svamp.DATASET.files(spec("svamp", raw_dir=tmp_path))) == 4
    more = spec("svamp", raw_dir=tmp_path, with_asdiv=True)
    with pytest.raises(UserError, match=r"asdiv_train\.json does not exist"):
        svamp.DATASET.load(more)
    write(tmp_path, "asdiv", "train")
    assert {row.id for row in svamp.DATASET.load(more)[0]} >= {"svamp/train/0", "asdiv/train/1"}


def test_shares_of_asdiv_are_nested_and_follow_the_seed(tmp_path):
    for dataset, split in (("svamp", "train"), ("svamp", "test"), ("asdiv", "train")):
        write(tmp_path, dataset, split, rows=40)
        (tmp_path / dataset / "llm" / f"{split}_CoT_0.json").write_text(
            json.dumps([SAID[dataset]] * 40)
        )

    def rows(share, seed=0):
        options = spec("svamp", raw_dir=tmp_path, with_asdiv=share)
        loaded = svamp.DATASET.load(dataclasses.replace(options, data_seed=seed))[0]
        return [row.id for row in loaded if row.id.startswith("asdiv")]

    assert rows(False) == rows(0.0) == []
    assert rows(True) == rows(1.0) == [f"asdiv/train/{row}" for row in range(40)]
    assert len(rows(0.25)) == 10 and set(rows(0.25)) < set(rows(0.5)) and len(rows(0.5)) == 20
    assert rows(0.25, seed=1) != rows(0.25)
    for share in (1.5, -1, "all"):
        with pytest.raises(UserError, match=f"got WITH_ASDIV = {share!r}, expected True, False"):
            svamp.DATASET.check(spec("svamp", raw_dir=tmp_path, with_asdiv=share))
    with pytest.raises(UserError, match="RAW_DIR is not set"):
        cqa.DATASET.load(spec("cqa"))


def test_anli_may_name_a_test_file(tmp_path):
    write(tmp_path, "anli1", "train")
    write(tmp_path, "anli1", "test")
    options = {"raw_dir": tmp_path, "raw_split": "train", "test_fraction": 0.2}
    train, test = anli1.DATASET.load(spec("anli1", raw_test_split="test", **options))
    assert [row.id for row in train + test] == [
        "anli1/train/0",
        "anli1/train/1",
        "anli1/test/0",
        "anli1/test/1",
    ]
    assert len(anli1.DATASET.files(spec("anli1", raw_test_split="test", **options))) == 4
    with pytest.raises(UserError, match="expected at least one of each"):  # one premise only
        anli1.DATASET.load(spec("anli1", raw_test_split="", **options))
    with pytest.raises(UserError, match="both name 'train'"):
        anli1.DATASET.load(spec("anli1", raw_test_split="train", **options))


# Found by others on the same files: share parsed, the teacher's accuracy over all rows.
FIGURES = {
    ("cqa", "train"): (9741, 0.981, 0.758),
    ("cqa", "test"): (1221, 0.987, 0.789),
    ("svamp", "train"): (800, 0.965, 0.743),
    ("svamp", "test"): (200, 0.970, 0.780),
    ("anli1", "valid"): (1000, 0.998, 0.674),
    ("esnli", "valid"): (9842, 0.9996, 0.732),
}


@pytest.mark.parametrize(("dataset", "split"), FIGURES)
def test_the_authors_files_give_known_figures(shared_dir, dataset, split):
    raw_dir = shared_dir / "data" / "distilling-step-by-step"
    rows = reader.read_released(raw_dir, dataset, split)
    found = reader.summary(rows, KINDS[dataset].correct)
    count, parsed, accuracy = FIGURES[dataset, split]
    assert found["rows"] == found["completions"] == count
    assert found["parsed"] / count == pytest.approx(parsed, abs=0.01)
    assert found["teacher_accuracy_all"] == pytest.approx(accuracy, abs=0.01)
    without = [row for row in rows if not (row.teacher_label and row.rationale)]
    assert all(row.failure for row in without)
    assert sum(found["failures"].values()) >= len(without)
    assert not [row for row in rows if "Q:" in (row.rationale or "")]
