"""What `distill data summary` says of a folder."""

import json

import pytest

from distill import cli

QUESTION = {
    "id": "1",
    "question": "Where do boats rest?",
    "choices": ["harbour", "attic", "oven", "cloud", "drawer"],
    "answer": "harbour",
    "abstractive_explanation": "",
    "extractive_explanation": "",
}
COMPLETIONS = [
    "Boats rest where ships tie up. So the answer is (a) harbour.",
    "Boats are stored. So the answer is (b) attic.",
    "I cannot say.",
]


RECORD = {
    "dataset": "cqa",
    "split": "test",
    "teacher": "palm",
    "rows": 3,
    "completions": 3,
    "parsed": 2,
    "teacher_accuracy_all": pytest.approx(1 / 3),
    "failures": {"no_answer": 1},
}


@pytest.fixture
def raw_dir(tmp_path):
    (tmp_path / "cqa" / "llm").mkdir(parents=True)
    (tmp_path / "cqa" / "cqa_test.json").write_text((json.dumps(QUESTION) + "\n") * 3)
    (tmp_path / "cqa" / "llm" / "test_CoT_0.json").write_text(json.dumps(COMPLETIONS))
    return tmp_path


def test_each_split_that_is_there_is_counted(raw_dir, capsys):
    assert cli.main(["data", "summary", f"--raw_dir={raw_dir}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] == {"cqa/test": RECORD}
    one = ["data", "summary", f"--raw_dir={raw_dir}", "--dataset=cqa", "--json"]
    assert cli.main(one) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["splits"] == {"test": RECORD}
    assert err == "test: 3 rows read\n"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [("svamp", "no released data of svamp in"), ("cqq", "unknown dataset 'cqq' (set by --dataset")],
)
def test_another_dataset_is_an_error(raw_dir, capsys, dataset, message):
    assert cli.main(["data", "summary", f"--raw_dir={raw_dir}", f"--dataset={dataset}"]) == 2
    assert message in capsys.readouterr().err


def test_the_table_names_failures(raw_dir, capsys):
    assert cli.main(["data", "summary", f"--raw_dir={raw_dir}"]) == 0
    _, split, failure = capsys.readouterr().out.splitlines()
    assert split.split()[:6] == ["cqa", "test", "3", "3", "66.67%", "33.3%"]
    assert failure.split() == ["1", "no_answer"]


def test_tokens_are_counted_with_a_vocabulary(raw_dir, shared_dir, capsys):
    model = shared_dir / "data" / "vocab" / "cc_all.32000.100extra.model"
    argv = ["data", "summary", f"--raw_dir={raw_dir}", f"--vocabulary_path={model}", "--json"]
    assert cli.main(argv) == 0
    tokens = json.loads(capsys.readouterr().out)["splits"]["cqa/test"]["tokens"]
    assert tokens["label"] == {"mean": 2.0, "p99": 2.0, "max": 2}  # `harbour` and EOS
    assert tokens["input"]["mean"] == tokens["input"]["max"] > 15


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "cqa" / "cqa_test.json").unlink(), "no released data in"),
        (
            lambda folder: (folder / "cqa" / "llm" / "test_CoT_0.json").write_text('["one"]'),
            "has 3 rows, but",
        ),
        (lambda folder: (folder / "cqa" / "llm" / "test_CoT_0.json").unlink(), "does not exist"),
    ],
)
def test_a_broken_folder_is_an_error(raw_dir, capsys, break_it, message):
    break_it(raw_dir)
    assert cli.main(["data", "summary", f"--raw_dir={raw_dir}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=asdiv"], "/asdiv/asdiv_train.json; set --raw_dir"),
        (["--teacher=gpt4"], "unknown teacher 'gpt4' (set by --teacher); expected one of gpt"),
    ],
)
def test_what_was_asked_for_is_named(raw_dir, capsys, flags, message):
    assert cli.main(["data", "summary", f"--raw_dir={raw_dir}", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_vocabulary_is_named_in_plain_words(raw_dir, capsys):
    path = raw_dir / "README.md"
    path.write_text("# Read me\n")
    argv = ["data", "summary", f"--raw_dir={raw_dir}", f"--vocabulary_path={path}"]
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert "README.md is not a SentencePiece model. Set VOCABULARY_PATH to the model" in said
