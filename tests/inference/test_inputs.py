"""Rows of a TFDS data set: its fields, a template of them, and what does not exist."""

from __future__ import annotations

import numpy as np
import pytest

from distill.data.examples import Example
from distill.data.mapping.row_mapping import mapping_of
from distill.errors import UserError
from distill.inference import inputs


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two built data sets: `pairs` with a class label, `own` with the project's fields."""
    import tensorflow_datasets as tfds

    text, folder = tfds.features.Text(), str(tmp_path_factory.mktemp("tfds"))
    pairs = {
        "premise": text,
        "hypothesis": text,
        "year": tfds.features.Scalar(np.int32),
        "marks": tfds.features.Sequence(text),
        "class": tfds.features.ClassLabel(names=["no", "yes"]),
    }
    own = {"id": text, "input": text, "label": text, "choices": tfds.features.Sequence(text)}
    pair = {"premise": "a dög", "hypothesis": "an animal", "year": 1999, "marks": ["x"]}
    built = {
        "pairs": (pairs, [pair | {"class": 1}, pair | {"class": -1, "premise": "{year}"}]),
        "own": (
            own,
            [
                {"id": "q1", "input": "one", "label": "b", "choices": ["a", "b"]},
                {"id": "q2", "input": "two", "label": "", "choices": []},
            ],
        ),
    }
    for name, (features, records) in built.items():
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            data_dir=folder,
            features=tfds.features.FeaturesDict(features),
            split_datasets={"test": list(enumerate(records))},
            disable_shuffling=True,
        )
    return folder


TEMPLATE = "premise: {premise} {{}} hypothesis: {hypothesis} ({year}, {class})"


def _of_tfds(name, split, data_dir, *fields):
    return inputs.of_tfds(name, split, data_dir, mapping_of(fields))


def test_a_template_makes_the_input(data_dir):
    source = _of_tfds("pairs:1.0.0", "test", data_dir, f"input={TEMPLATE}", "label=class")
    assert source.total == 2
    first, second = source.rows
    assert first == Example(
        id="pairs:1.0.0/test/0",
        input="premise: a dög {{}} hypothesis: an animal (1999, yes)",
        label="yes",
        choices=("no", "yes"),
        split="test",
    )
    assert second.input == "premise: {year} {{}} hypothesis: an animal (1999, None)"
    assert second.label is None
    assert source.described["tfds"] == "pairs/1.0.0"
    assert source.described["fields"] == {"input": TEMPLATE, "label": "class"}


def test_the_project_s_own_fields_need_no_template(data_dir):
    first, second = _of_tfds("own", "test", data_dir).rows
    assert first == Example(id="q1", input="one", label="b", choices=("a", "b"), split="test")
    assert second == Example(id="q2", input="two", split="test")
    source = _of_tfds("own", "test[1:]", data_dir, "id=id", "input=q: {input}")
    assert source.total == 1
    assert list(source.rows) == [Example(id="q2", input="q: two", split="test")]


@pytest.mark.parametrize(("split", "total"), [("all", 2), ("test+test", 4), ("test[50%:]", 1)])
def test_split_expressions(data_dir, split, total):
    source = _of_tfds("pairs", split, data_dir, "input=premise")
    assert source.total == len(list(source.rows)) == total


@pytest.mark.parametrize(
    ("name", "split", "fields", "message"),
    [
        ("pairs", "test", ["input={premis}"], "unknown feature 'premis'.*closest: premise"),
        ("pairs", "test", ["input=premise: x"], "unknown feature 'premise: x'.*closest: premise"),
        ("pairs", "test", [], "pairs has no feature `input`.*use --field"),
        ("pairs", "test", ["input=premise", "label=clas"], "unknown feature 'clas'.*label=clas"),
        ("pairs", "tets", ["input=premise"], "unknown split 'tets'.*closest: test"),
        ("pairs", "test", ["input={marks}"], "feature marks contains lists of single values"),
        ("pairs", "test", ["input=year", "choices=a {marks}"], "expected the name of one feature"),
        ("pairs:9.9.9", "test", ["input=premise"], "--tfds pairs:9.9.9"),
        ("pears", "test", ["input=premise"], "--tfds pears: .*expected NAME.*tfds build"),
    ],
)
def test_what_does_not_exist(data_dir, name, split, fields, message):
    with pytest.raises(UserError, match=message):
        _of_tfds(name, split, data_dir, *fields)


def test_nothing_is_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"--tfds mnist: nothing is built in .*tfds build"):
        _of_tfds("mnist", "test", str(tmp_path), "input=label")
