"""Rows come from files, the released layout and TFDS."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from distill.errors import UserError
from distill.teacher import sources


def test_the_released_layout_needs_no_completions(tmp_path):
    (tmp_path / "cqa").mkdir()
    row = {"question": "where ?", "choices": ["sea", "sky"], "answer": "sky"}
    (tmp_path / "cqa" / "cqa_test.json").write_text(json.dumps(row) + "\n")
    (example,) = sources.from_released(tmp_path, "cqa", "test")
    assert example.id == "cqa/test/0" and example.label == "sky"
    assert example.input == "where ?\nAnswer Choices:\n(a) sea\n(b) sky"
    with pytest.raises(UserError, match="closest: cqa"):
        sources.from_released(tmp_path, "cqqa", "test")
    with pytest.raises(UserError, match=r"cqa_train.json does not exist"):
        sources.from_released(tmp_path, "cqa", "train")


def test_csv_and_jsonl_files(tmp_path):
    (tmp_path / "a.csv").write_text('input,label\n"where, please",x\n')
    (tmp_path / "a.jsonl").write_text('{"input": "where, please", "label": "x"}\n')
    for name in ("a.csv", "a.jsonl"):
        (row,) = sources.from_file(tmp_path / name, "train")
        assert (row.id, row.input, row.label) == ("a/train/0", "where, please", "x")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["input"], "expected e.g. label=label"),
        (["input="], "expected e.g. label=label"),
        (["inptu={x}"], "closest: input"),
        (["label=label"], "needs --field for `input`"),
    ],
)
def test_bad_mappings(fields, message):
    with pytest.raises(UserError, match=message):
        sources.mapping_of(fields)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A built TFDS dataset `tiny_nli` with three rows; the last has no label."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "premise": tfds.features.Text(),
            "hypothesis": tfds.features.Text(),
            "uid": tfds.features.Text(),
            "answers": tfds.features.Sequence({"text": tfds.features.Text()}),
            "about": {"source": tfds.features.Text()},
            "label": tfds.features.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )
    rows = [
        (
            n,
            {
                "premise": f"Ein Hund {n} schläft {{x}}.",
                "hypothesis": "A dog.",
                "uid": f"u{n}",
                "answers": {"text": ["ja", "nein"]},
                "about": {"source": "web"},
                "label": label,
            },
        )
        for n, label in enumerate([0, 2, -1])
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_nli",
        version="0.1.0",
        features=features,
        split_datasets={"test": rows},
        data_dir=folder,
        disable_shuffling=True,
    )
    return str(folder)


def test_tfds_rows_by_field_mapping(built):
    fields = sources.mapping_of(
        ["input=premise: {premise} hypothesis: {hypothesis}", "label=label"]
    )
    rows = sources.from_tfds("tiny_nli:0.1.0", "test", fields, built)
    assert [row.label for row in rows] == ["entailment", "contradiction", None]
    assert rows[0].input == "premise: Ein Hund 0 schläft {x}. hypothesis: A dog."
    assert rows[0].choices == ("entailment", "neutral", "contradiction")
    assert rows[1].id == "tiny_nli:0.1.0/test/1" and rows[1].split == "test"
    named = sources.from_tfds(
        "tiny_nli", "test[:2]", _mapped({"input": "premise", "id": "x-{uid}"}), built
    )
    assert [row.id for row in named] == ["x-u0", "x-u1"]


def test_tfds_features_within_others_and_classes_within_texts(built):
    fields = sources.mapping_of(
        ["input={about/source}: {premise} ({label})", "choices=answers/text"]
    )
    rows = sources.from_tfds("tiny_nli", "test[:2]", fields, built)
    assert rows[1].input == "web: Ein Hund 1 schläft {x}. (contradiction)"
    assert rows[1].choices == ("ja", "nein")
    with pytest.raises(UserError, match="feature answers/text contains lists of single values"):
        sources.from_tfds("tiny_nli", "test", _mapped({"input": "answers/text"}), built)
    with pytest.raises(UserError, match="feature premise contains single values, expected a list"):
        sources.from_tfds(
            "tiny_nli", "test", _mapped({"input": "uid", "choices": "premise"}), built
        )


def _mapped(fields):
    return sources.mapping_of(f"{name}={template}" for name, template in fields.items())


def _no_route(*_, **__):
    raise OSError("no route to host\nand more")


def test_tfds_names_that_are_not_there(built, monkeypatch):
    import tensorflow_datasets as tfds

    with pytest.raises(UserError, match=r"unknown feature 'premis'.*closest: premise"):
        sources.from_tfds("tiny_nli", "test", _mapped({"input": "{premis}"}), built)
    with pytest.raises(UserError, match=r"duplicate id 'A dog\.'"):
        sources.from_tfds(
            "tiny_nli", "test", _mapped({"input": "premise", "id": "hypothesis"}), built
        )
    with pytest.raises(UserError, match=r"unknown split 'train' .*--tfds tiny_nli, split train"):
        sources.from_tfds("tiny_nli", "train", _mapped({"input": "premise"}), built)
    with monkeypatch.context() as patch:
        patch.setattr(tfds, "builder", _no_route)
        with pytest.raises(UserError, match=r"--tfds broken: no route to host; expected"):
            sources.from_tfds("broken", "test", _mapped({"input": "premise"}), built)
    with pytest.raises(UserError, match="--tfds no_such_nli"):
        sources.from_tfds("no_such_nli", "test", _mapped({"input": "premise"}), built)


def test_nothing_heavy_is_loaded_to_ask():
    code = (
        "import sys; from distill.teacher import pipeline\n"
        "from distill.tickets import server\n"
        "heavy = {'jax', 'tensorflow', 'seqio', 'openai'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
