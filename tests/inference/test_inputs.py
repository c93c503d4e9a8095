"""Rows of a TFDS data set: its fields, a template of them, and what does not exist."""

from __future__ import annotations

import numpy as np
import pytest

from distill.data.examples import Example
from distill.errors import UserError
from distill.inference import inputs


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two built data sets: `pairs` with a class label, `own` with the project's fields."""
    import tensorflow_datasets as tfds

    text, folder = tfds.features.Text(), str(tmp_path_factory.mktemp("tfds"))
    pairs = {
        "premise": text, "hypothesis": text, "year": tfds.features.Scalar(np.int32),
       
        "marks": tfds.features.Sequence(text),
        "class": tfds.features.ClassLabel(names=["no", "yes"]),
    }  # fmt: skip
    own = {"id": text, "input": text, "label": text, "choices": tfds.features.Sequence(text)}
    pair = {"premise": "a dög", "hypothesis": "an animal", "year": 1999, "marks": ["x"]}
    built = {
        "pairs": (pairs, [pair | {"class": 1}, pair | {"class": -1, "premise": "{year}"}]),
        "own": (own, [
            {"id": "q1", "input": "one", "label": "b", "choices": ["a", "b"]},
            {"id": "q2", "input": "two", "label": "", "choices": []},
        ]),
    }  # fmt: skip
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


def test_a_template_makes_the_input(data_dir):
    source = inputs.of_tfds("pairs:1.0.0", "test", data_dir, TEMPLATE, "class")
    assert source.total == 2
    first, second = source.rows
    assert first == Example(
        id="pairs:1.0.0/test/0",
        input="premise: a dög {} hypothesis: an animal (1999, yes)",
        label="yes",
    )
    assert second.input == "premise: {year} {} hypothesis: an animal (1999, )"
    assert second.label is None
    assert source.described["tfds"] == "pairs/1.0.0"


def test_the_project_s_own_fields_need_no_template(data_dir):
    first, second = inputs.of_tfds("own", "test", data_dir).rows
    assert first == Example(id="q1", input="one", label="b", choices=("a", "b"))
    assert second == Example(id="q2", input="two")
    (only,) = inputs.of_tfds("own", "test[1:]", data_dir, "q: {input}").rows
    assert only == Example(id="q2", input="q: two")


@pytest.mark.parametrize(
    ("name", "split", "template", "label", "message"),
    [
        ("pairs", "test", "{premis}", "", "unknown field 'premis'.*closest: premise, "),
        ("pairs", "test", "", "", "unknown field 'input'.*pairs, which then needs --input_templ"),
        ("pairs", "test", "{premise}", "clas", "unknown field 'clas'.*--label_field.*class"),
        ("pairs", "tets", "{premise}", "", "unknown split 'tets'.*closest: test"),
        ("pairs", "test", "premise", "", "expected names of fields in braces"),
        ("pairs", "test", "{premise.name}", "", "expected names of fields in braces"),
        ("pairs", "test", "{premise!r}", "", "expected names of fields in braces"),
        ("pairs", "test", "{premise", "", "expected one such as"),
        ("pairs:9.9.9", "test", "{premise}", "", "--tfds pairs:9.9.9"),
        ("pears", "test", "{premise}", "", "--tfds pears: .*expected NAME"),
    ],
)
def test_what_does_not_exist(data_dir, name, split, template, label, message):
    with pytest.raises(UserError, match=message):
        inputs.of_tfds(name, split, data_dir, template, label)


def test_a_field_that_is_no_text(data_dir):
    rows = inputs.of_tfds("pairs", "test", data_dir, "{marks}").rows
    with pytest.raises(UserError, match="field 'marks' holds no single text"):
        list(rows)
