"""An Example as a TFDS record, and what the builders have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from distill.data.examples import Example, Failure
from distill.errors import UserError

RELEASE_NOTES = {"1.0.0": "Example records: rows, teacher labels, rationales, typed failures."}

Rows = Callable[[], Sequence[Example]]


def features() -> tfds.features.FeaturesDict:
    """The features of a record; an absent text is empty, and so is an absent failure.

    `row` is the place of the row in its split's source, from 0.
    """
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "row": tfds.features.Scalar(dtype=np.int32),
            "id": text(),
            "input": text(),
            "label": text(),
            "teacher_label": text(),
            "rationale": text(),
            "failure": text(doc=f"'' or one of {', '.join(Failure)}"),
            "choices": tfds.features.Sequence(text()),
            "split": text(),
        }
    )


def to_tfds_record(example: Example, row: int) -> dict[str, object]:
    """The record of an example that is the `row`-th of its source."""
    return {
        "row": row,
        "id": example.id,
        "input": example.input,
        "label": example.label or "",
        "teacher_label": example.teacher_label or "",
        "rationale": example.rationale or "",
        "failure": str(example.failure or ""),
        "choices": list(example.choices),
        "split": example.split,
    }


class RecordBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # TFDS has no types
):
    """Writes examples, and the digest of what they were made from.

    The digest stands in the metadata of the built data. Data that were built from
    something else under the same name and version are refused, not reused.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = RELEASE_NOTES

    @abc.abstractmethod
    def source_digest(self, folder: epath.Path | None) -> str:
        """Hex digest of what decides the rows; `folder` is the manual_dir, if there is one."""

    @abc.abstractmethod
    def source_rows(self, folder: epath.Path | None) -> dict[str, Rows]:
        """TFDS split -> function that gives its rows."""

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **others: object
    ) -> None:
        """Builds the data, or sees that what is there was made from the same source.

        Without a manual_dir where one is needed, data that are there are used unseen.

        Raises:
          UserError: the data that are there were made from another source; what the
            readers complain of.
        """
        folder = download_config.manual_dir if download_config else None
        comparable = folder is not None or not self.MANUAL_DOWNLOAD_INSTRUCTIONS
        if self.data_path.exists() and comparable and not _overwrites(download_config):
            stored_digest = self.info.metadata.get("data_digest")
            current_digest = self.source_digest(epath.Path(folder) if folder else None)
            if stored_digest != current_digest:
                raise UserError(
                    f"{self.data_path} was built from other data or settings (digest "
                    f"{stored_digest}, now {current_digest}); remove that folder, or build into "
                    "another --tfds_data_dir"
                )
        super().download_and_prepare(download_config=download_config, **others)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, object]]]]:
        folder = epath.Path(dl_manager.manual_dir) if self.MANUAL_DOWNLOAD_INSTRUCTIONS else None
        self.info.metadata["data_digest"] = self.source_digest(folder)
        splits = self.source_rows(folder).items()
        return {split: self._generate_examples(rows) for split, rows in splits}

    def _generate_examples(self, rows: Rows) -> Iterator[tuple[str, dict[str, object]]]:
        for index, example in enumerate(rows()):
            yield example.id, to_tfds_record(example, index)

    def _make_info(
        self, description: str, citation: str, homepage: str, license: str
    ) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=description,
            features=features(),
            supervised_keys=("input", "label"),
            homepage=homepage,
            citation=citation,
            license=license,
            metadata=tfds.core.MetadataDict(),
        )


def _overwrites(config: tfds.download.DownloadConfig | None) -> bool:
    return bool(config and config.download_mode.overwrite_dataset)
