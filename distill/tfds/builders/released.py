"""`distill_released`: the rows and completions that the paper's authors released."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow_datasets as tfds
from etils import epath

from distill.common.digests import sha256_files
from distill.data.released import licenses, reader
from distill.data.released.rows import KINDS
from distill.errors import UserError
from distill.tfds.builders import citations
from distill.tfds.builders.records import RecordBuilder, Rows

SPLITS = {"train": "train", "valid": "validation", "test": "test"}


@dataclasses.dataclass(kw_only=True)
class ReleasedConfig(tfds.core.BuilderConfig):
    """One released dataset with the completions of one teacher.

    Attributes:
      dataset: a name of `released_rows.KINDS`.
      teacher: "palm" or "gpt-neox".
    """

    dataset: str = ""
    teacher: str = "palm"


def _configs() -> list[ReleasedConfig]:
    palm = [ReleasedConfig(name=name, dataset=name, description="PaLM-540B.") for name in KINDS]
    neox = [
        ReleasedConfig(
            name=f"{name}_gpt_neox", dataset=name, teacher="gpt-neox", description="GPT-NeoX-20B."
        )
        for name in KINDS
    ]
    return palm + neox


class DistillReleased(RecordBuilder):
    """Builds the splits whose file of rows is there; `valid` is called `validation`."""

    BUILDER_CONFIGS = _configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    manual_dir is the data folder that the authors of Distilling step-by-step released:
    unpack datasets.zip of https://github.com/google-research/distilling-step-by-step, or
    run `distill data fetch --output=DIR` and take DIR/datasets. It holds
    <dataset>/<dataset>_<split>.json and <dataset>/llm/<split>_CoT_<k>.json.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        name = self.builder_config.dataset
        return self._make_info(
            description=f"Rows of {name} with labels and rationales that were read out of a "
            f"language model's completions ({self.builder_config.teacher}).",
            citation=citations.PAPER + citations.DATASETS[name],
            homepage="https://github.com/google-research/distilling-step-by-step",
            license=licenses.RELEASED[name],
        )

    def source_digest(self, folder: epath.Path | None) -> str:
        """Digest of the files of all splits that are there."""
        dataset, teacher = self.builder_config.dataset, self.builder_config.teacher
        paths = [
            path
            for split in self._splits(folder)
            for path in reader.files_of(folder, dataset, split, teacher)
        ]
        return sha256_files(folder, paths)

    def source_rows(self, folder: epath.Path | None) -> dict[str, Rows]:
        """The splits that are there.

        Raises:
          UserError: there is none.
        """
        dataset, teacher = self.builder_config.dataset, self.builder_config.teacher
        return {
            SPLITS[split]: functools.partial(reader.read_released, folder, dataset, split, teacher)
            for split in self._splits(folder)
        }

    def _splits(self, folder: epath.Path) -> list[str]:
        name = self.builder_config.dataset
        files = {split: folder / name / f"{name}_{split}.json" for split in KINDS[name].splits}
        present = [split for split, file in files.items() if file.exists()]
        if not present:
            raise UserError(
                f"no released rows of {name} in {folder}: expected e.g. "
                f"{next(iter(files.values()))}; set --raw_dir to the unpacked data folder of "
                "google-research/distilling-step-by-step"
            )
        return present
