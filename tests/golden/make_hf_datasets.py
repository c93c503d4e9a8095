"""Writes tests/golden/hf_datasets: folders of Hugging Face's `datasets`, which tests only read.

pip install datasets==5.2.0
python tests/golden/make_hf_datasets.py
"""

from __future__ import annotations

import datetime
import pathlib
import shutil

import datasets

FOLDER = pathlib.Path(__file__).parent / "hf_datasets"
FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "answers": {"text": datasets.Sequence(datasets.Value("string"))},
        "verdicts": [{"kind": datasets.ClassLabel(names=["weak", "strong"])}],
        "label": datasets.ClassLabel(names=["negative", "positive"]),
        "day": datasets.Value("date32"),
    }
)


def rows(texts: list[str], labels: list[int]) -> datasets.Dataset:
    """A split."""
    columns = {
        "text": texts,
        "answers": [{"text": [f"{text}!", f"{text}?"]} for text in texts],
        "verdicts": [[{"kind": 0}, {"kind": 1}] for _ in texts],
        "label": labels,
        "day": [None, *[datetime.date(2024, 5, 1)] * (len(texts) - 1)],
    }
    return datasets.Dataset.from_dict(columns, features=FEATURES)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    splits = datasets.DatasetDict(
        train=rows(["good film", "bad film", "fine film"], [1, 0, 1]),
        test=rows(["dull", "great"], [-1, 1]),
    )
    splits.save_to_disk(str(FOLDER / "saved"), num_shards={"train": 2, "test": 1})
    for name, split in splits.items():
        path = FOLDER / "parquet" / "data" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        split.to_parquet(str(path))
