"""`distill_tickets`: tickets of the embedded dataset, generated, with the simulated teacher."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from distill.data.examples import Example
from distill.data.released import licenses
from distill.tfds.builders import citations
from distill.tfds.builders.records import RecordBuilder, Rows
from distill.tickets import generator


@dataclasses.dataclass(kw_only=True)
class TicketsConfig(tfds.core.BuilderConfig):
    """A returns policy; the defaults are those of gin/data/tickets.gin.

    Attributes:
      policy: "natural" or "hard".
      num_rows: tickets of the training split.
      num_test: tickets of the test split, without a teacher.
      teacher_accuracy: how often the simulated teacher is right.
      seed: seeds tickets and teacher.
    """

    policy: str = "natural"
    num_rows: int = 2000
    num_test: int = 1000
    teacher_accuracy: float = 1.0
    seed: int = 0


def config_of(**settings: Any) -> str | TicketsConfig:
    """What `DistillTickets` takes as `config` for these fields of `TicketsConfig`.

    With the default settings it is the policy's name; others stand in the name, so that
    tickets of different settings have their place in one folder.
    """
    config = TicketsConfig(name="", **settings)
    if config == TicketsConfig(name="", policy=config.policy):
        return config.policy
    teacher = str(config.teacher_accuracy).replace(".", "p")
    name = (
        f"{config.policy}_rows{config.num_rows}_test{config.num_test}_teacher{teacher}"
        f"_seed{config.seed}"
    )
    # Mypy does not see the field `name`: TFDS has no types.
    return dataclasses.replace(config, name=name)  # type: ignore[call-arg]


class DistillTickets(RecordBuilder):
    """Generates the splits train and test; nothing is read or downloaded."""

    BUILDER_CONFIGS = [  # noqa: RUF012  TFDS's own way to name configurations
        TicketsConfig(name=policy, policy=policy, description=f"Returns policy {policy!r}.")
        for policy in ("natural", "hard")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            description="Tickets of a support desk, sorted by a returns policy, with rationales "
            "that name the classes of their words. Generated; the rationales are noiseless.",
            citation=citations.PAPER,
            homepage="https://arxiv.org/abs/2305.02301",
            license=licenses.GENERATED,
        )

    def source_digest(self, folder: epath.Path | None) -> str:
        """Digest of the rows themselves."""
        digest = hashlib.sha256()
        for rows in self.source_rows(folder).values():
            for row in rows():
                digest.update(json.dumps(row.to_dict()).encode() + b"\n")
        return digest.hexdigest()

    def source_rows(self, folder: epath.Path | None) -> dict[str, Rows]:
        """Tickets of the seed, as `tasks.tickets` makes them."""
        config = self.builder_config
        return {
            "train": functools.partial(_train, config),
            "test": functools.partial(
                generator.generate, config.policy, config.num_test, config.seed, "test"
            ),
        }


def _train(config: TicketsConfig) -> Sequence[Example]:
    from distill.tickets import teacher as simulated

    tickets = generator.generate(config.policy, config.num_rows, config.seed, "train")
    return simulated.annotate(tickets, config.policy, config.teacher_accuracy, config.seed)
