"""`distill data build`: a TFDS data set from released, generated or one's own rows."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from etils import epath

from distill.common.progress import Stage
from distill.data.released.reader import TEACHERS
from distill.data.released.rows import KINDS
from distill.errors import UserError, unknown
from distill.tfds.quiet import quiet_tfds

if TYPE_CHECKING:
    from distill.tfds.builders.records import RecordBuilder

DATASETS = (*KINDS, "tickets", "jsonl")


class Built(TypedDict):
    """What `build_dataset` gives."""

    dataset: str
    tfds_name: str
    tfds_data_dir: str
    path: str
    was_there: bool
    splits: dict[str, int]
    data_digest: str


def build_dataset(
    dataset: str,
    data_dir: epath.PathLike,
    raw_dir: str = "",
    teacher: str = "palm",
    name: str = "default",
    tickets: Mapping[str, object] | None = None,
) -> Built:
    """Builds a data set with TFDS, or finds that it is there, made from the same source.

    Args:
      dataset: one of DATASETS.
      data_dir: the TFDS data folder to build into, local or on gs://.
      raw_dir: the folder of the source files; not for `tickets`.
      teacher: "palm" or "gpt-neox", for released data.
      name: what to call the rows, for `jsonl`.
      tickets: settings of `tickets` (fields of `TicketsConfig`); policy is natural or hard.

    Returns:
      dataset; tfds_name (what `tfds.load` and SeqIO take); path; was_there; splits: rows
      of each; data_digest.

    Raises:
      UserError: an unknown name, a missing or bad source file, or data of another source
        under the same name and version.
    """
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS, "--dataset")
    if dataset != "tickets":
        if not raw_dir:
            needed = "your train.jsonl" if dataset == "jsonl" else "the released files"
            raise UserError(f"dataset {dataset} needs --raw_dir, the folder of {needed}")
        if not epath.Path(raw_dir).is_dir():
            problem = (
                "is a file, expected a folder" if epath.Path(raw_dir).exists() else "does not exist"
            )
            raise UserError(f"--raw_dir: {raw_dir} {problem}")
    with quiet_tfds():
        return _build(dataset, str(data_dir), raw_dir, teacher, name, dict(tickets or {}))


def _build(
    dataset: str,
    data_dir: str,
    raw_dir: str,
    teacher: str,
    name: str,
    tickets: dict[str, object],
) -> Built:
    import tensorflow_datasets as tfds

    builder = _builder(dataset, data_dir, teacher, name, tickets)
    was_there = builder.is_prepared()
    config = tfds.download.DownloadConfig(manual_dir=epath.Path(raw_dir) if raw_dir else None)
    # Nothing is downloaded, but TFDS makes a folder for it; and it prints that it downloads.
    with (
        tempfile.TemporaryDirectory() as empty,
        contextlib.redirect_stdout(io.StringIO()),
        Stage(f"building {dataset} with TFDS"),
    ):
        try:
            builder.download_and_prepare(download_config=config, download_dir=empty)
        except OSError as error:
            if error.errno is not None:
                raise
            raise UserError(f"--tfds_data_dir={data_dir} cannot be written: {error}") from error
    return {
        "dataset": dataset,
        "tfds_name": f"{builder.name}/{builder.builder_config.name}:{builder.version}",
        "tfds_data_dir": data_dir,
        "path": str(builder.data_path),
        "was_there": was_there,
        "splits": {split: info.num_examples for split, info in builder.info.splits.items()},
        "data_digest": builder.info.metadata["data_digest"],
    }


def _builder(
    dataset: str, data_dir: str, teacher: str, name: str, settings: dict[str, object]
) -> RecordBuilder:
    from distill.tfds import builders
    from distill.tfds.builders.tickets import config_of

    if dataset == "tickets":
        policies = list(builders.DistillTickets.builder_configs)
        if (policy := settings.get("policy", policies[0])) not in policies:
            raise unknown("policy", str(policy), policies, "--policy")
        return builders.DistillTickets(data_dir=data_dir, config=config_of(**settings))
    if dataset == "jsonl":
        import tensorflow_datasets as tfds

        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(f"--name: got {name!r}, expected lowercase letters, digits and _")
        config = "default" if name == "default" else tfds.core.BuilderConfig(name=name)
        return builders.DistillJsonl(data_dir=data_dir, config=config)
    if teacher not in TEACHERS:
        raise unknown("teacher", teacher, TEACHERS, "--teacher")
    config = dataset if teacher == "palm" else f"{dataset}_gpt_neox"
    return builders.DistillReleased(data_dir=data_dir, config=config)
