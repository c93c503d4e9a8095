"""The TFDS builders make the records that the readers give, by TFDS's own tests."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import types

import pytest
import tensorflow_datasets as tfds

if importlib.util.find_spec("dill") is None:
    # tfds.testing imports dill for its tests of features, none of which is used here.
    sys.modules["dill"] = types.ModuleType("dill")

from distill.data.examples import Example, Failure
from distill.data.released import reader
from distill.data.tables import read_table
from distill.errors import UserError
from distill.tfds.builders import DistillJsonl, DistillReleased, DistillTickets, citations, records
from distill.tfds.builders.tickets import TicketsConfig, config_of

DUMMY = pathlib.Path(__file__).parent / "tfds_dummy"


class InferenceTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DistillReleased
    EXAMPLE_DIR = DUMMY
    BUILDER_CONFIG_NAMES_TO_TEST = ("esnli", "anli1")
    SPLITS = {"train": 3, "validation": 2, "test": 2}  # noqa: RUF012


class QuestionsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DistillReleased
    EXAMPLE_DIR = DUMMY
    BUILDER_CONFIG_NAMES_TO_TEST = ("cqa", "cqa_gpt_neox", "svamp", "asdiv")
    SPLITS = {"train": 3, "test": 2}  # noqa: RUF012


class TicketsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DistillTickets
    EXAMPLE_DIR = DUMMY
    BUILDER_CONFIG_NAMES_TO_TEST = (
        TicketsConfig(name="few_natural", policy="natural", num_rows=5, num_test=4),
        TicketsConfig(name="few_hard", policy="hard", num_rows=5, num_test=4, teacher_accuracy=0.5),
    )
    SPLITS = {"train": 5, "test": 4}  # noqa: RUF012


class JsonlTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DistillJsonl
    EXAMPLE_DIR = DUMMY / "jsonl"
    SPLITS = {"train": 3, "test": 2}  # noqa: RUF012


def from_record(record):
    """The example of a record as `tfds.as_numpy` gives it: the inverse of `to_record`."""

    def text(name):
        return record[name].decode()

    return Example(
        id=text("id"),
        input=text("input"),
        label=text("label") or None,
        teacher_label=text("teacher_label") or None,
        rationale=text("rationale") or None,
        failure=Failure(text("failure")) if record["failure"] else None,
        choices=tuple(choice.decode() for choice in record["choices"]),
        split=text("split"),
    )


def built(builder, folder, raw_dir):
    """The rows of each split, read back in the order of their source."""
    config = tfds.download.DownloadConfig(manual_dir=raw_dir)
    builder.download_and_prepare(download_config=config, download_dir=folder / "none")
    splits = {}
    for split in builder.info.splits:
        found = sorted(
            tfds.as_numpy(builder.as_dataset(split=split)), key=lambda record: record["row"]
        )
        assert [record["row"] for record in found] == list(range(len(found)))
        splits[split] = [from_record(record) for record in found]
    return splits


def test_released_records_are_the_readers_rows(tmp_path):
    builder = DistillReleased(data_dir=tmp_path, config="anli1")
    splits = built(builder, tmp_path, DUMMY)
    assert splits == {
        "train": reader.read_released(DUMMY, "anli1", "train"),
        "validation": reader.read_released(DUMMY, "anli1", "valid"),
        "test": reader.read_released(DUMMY, "anli1", "test"),
    }
    assert splits["train"][2].failure is Failure.NO_ANSWER
    assert splits["validation"][1].failure is Failure.NO_RATIONALE


def test_own_records_are_the_rows_of_the_files(tmp_path):
    builder = DistillJsonl(data_dir=tmp_path, config=tfds.core.BuilderConfig(name="mine"))
    assert built(builder, tmp_path, DUMMY / "jsonl") == {
        "train": read_table(DUMMY / "jsonl" / "train.jsonl", "train"),
        "test": read_table(DUMMY / "jsonl" / "test.csv", "test"),
    }


def test_each_rationale_of_a_training_row_is_a_record(tmp_path):
    row = '{"input": "a", "id": "q", "rationale": ["one", "two"]}\n'
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(row)
    builder = DistillJsonl(data_dir=tmp_path / "tfds", config=tfds.core.BuilderConfig(name="mine"))
    found = built(builder, tmp_path / "tfds", tmp_path)
    assert [(row.id, row.rationale) for row in found["train"]] == [("q", "one"), ("q#1", "two")]
    assert [(row.id, row.rationale) for row in found["test"]] == [("q", "one")]
    (tmp_path / "train.jsonl").write_text(row + '{"input": "b", "id": "r", "rationale": "one"}\n')
    with pytest.raises(UserError, match=r"row q has 2 rationales, but row r has fewer: built data"):
        DistillJsonl(data_dir=tmp_path / "more").source_rows(tmp_path)["train"]()


def test_a_record_holds_all_of_an_example():
    example = Example("i", "x", "a", "b", "r", Failure.TWO_ANSWERS, ("a", "b"), "train")
    for row in (example, Example("i", "x")):
        record = records.to_tfds_record(row, 7)
        assert set(record) == set(records.features())
        as_numpy = {n: v.encode() if isinstance(v, str) else v for n, v in record.items()}
        as_numpy["choices"] = [choice.encode() for choice in record["choices"]]
        assert from_record(as_numpy) == row


@pytest.mark.parametrize("config", ["esnli", "anli1", "cqa", "svamp", "asdiv"])
def test_what_a_catalog_needs(tmp_path, config):
    info = DistillReleased(data_dir=tmp_path, config=config).info
    assert "Distilling Step-by-Step" in info.citation
    assert citations.DATASETS[config].strip() in info.citation
    assert info.citation.count("@inproceedings") == info.citation.count("\n}")
    assert str(info.version) in DistillReleased.RELEASE_NOTES
    assert "distill data fetch" in DistillReleased.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert info.metadata == {}


def test_tickets_settings_have_names_of_their_own():
    assert config_of(policy="hard") == "hard"
    assert config_of(policy="hard", teacher_accuracy=0.8, num_rows=9).name == (
        "hard_rows9_test1000_teacher0p8_seed0"
    )


def test_a_folder_without_rows_is_an_error(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "trian.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"no rows in .*closest there: trian\.jsonl"):
        built(DistillJsonl(data_dir=tmp_path), tmp_path, tmp_path / "raw")
    with pytest.raises(UserError, match="no released rows of esnli"):
        built(DistillReleased(data_dir=tmp_path, config="esnli"), tmp_path, tmp_path / "raw")
    (tmp_path / "raw" / "test.jsonl").write_text("{}")
    (tmp_path / "raw" / "test.csv").write_text("input\n")
    with pytest.raises(UserError, match="keep only one of them"):
        built(DistillJsonl(data_dir=tmp_path), tmp_path, tmp_path / "raw")
    assert not list(tmp_path.glob("distill_*/*/1.0.0"))
