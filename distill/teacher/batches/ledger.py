"""The batches of a store that are not read yet: a JSON file for each.

    <store>/batches/<tag>.json

The file is written before the batch is submitted. If the process ends before it learns the batch's
id, the batch is found again by its tag, which is in its metadata, or by its file of requests. Once
the results are stored the file is removed.
"""

from __future__ import annotations

import dataclasses
import json
import uuid

from etils import epath

from distill.common.atomic import write_text
from distill.common.phrases import number_of
from distill.common.text_files import parse_json
from distill.errors import UserError

_FOLDER = "batches"


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One request of a batch.

    Attributes:
      row: id of the row.
      digest: of the request.
      first: the first of its samples.
      count: how many it asks for.
    """

    row: str
    digest: str
    first: int
    count: int

    @property
    def samples(self) -> range:
        """The samples that it asks for."""
        return range(self.first, self.first + self.count)


@dataclasses.dataclass
class Entry:
    """A batch that was, or may have been, submitted.

    Attributes:
      tag: names the batch in its metadata.
      head: digest of the prompt and the settings, see `Digests.head`.
      base_url: the provider.
      file_id: the provider's name of the file of requests.
      requests: what it asks, by custom id.
      stops: whether stops were sent.
      batch_id: the provider's name of the batch, "" if it is not known.
      cancelled: whether a job that stopped has cancelled it.
    """

    tag: str
    head: str
    base_url: str
    file_id: str
    requests: dict[str, Asked]
    stops: bool = False
    batch_id: str = ""
    cancelled: bool = False


def new_tag() -> str:
    """A name that no other batch has."""
    return f"distill-{uuid.uuid4().hex}"


class Ledger:
    """The entries of a store."""

    def __init__(self, store: epath.PathLike) -> None:
        self.folder = epath.Path(store) / _FOLDER

    def entries(self) -> list[Entry]:
        """All entries.

        Raises:
          UserError: a file that is none.
        """
        if not self.folder.is_dir():
            return []
        return [_read(path) for path in sorted(self.folder.glob("*.json"), key=str)]

    def path_of(self, entry: Entry) -> epath.Path:
        """The file of an entry."""
        return self.folder / f"{entry.tag}.json"

    def save(self, entry: Entry) -> None:
        """Writes an entry, durably if the store is local."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.path_of(entry), json.dumps(dataclasses.asdict(entry)) + "\n")

    def remove(self, entry: Entry) -> None:
        """Removes an entry: its results are stored, or it was not submitted."""
        self.path_of(entry).unlink(missing_ok=True)

    def check_none(self, head: str) -> None:
        """Refuses to ask for rows of which batches may be under way.

        Args:
          head: digest of the prompt and the settings.

        Raises:
          UserError: there are such batches; it names the first.
        """
        found = [entry for entry in self.entries() if entry.head == head]
        if found:
            entry = found[0]
            raise UserError(
                f"{number_of(len(found), 'batch')} of this job may be under way, such as "
                f"{entry.batch_id or entry.tag} at {entry.base_url}: add --batch to fetch their "
                f"answers. To give them up and pay again, remove {self.path_of(entry)}"
            )


def _read(path: epath.Path) -> Entry:
    try:
        fields = parse_json(path.read_bytes())
        requests = {name: Asked(**asked) for name, asked in fields.pop("requests").items()}
        return Entry(requests=requests, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: not the record of a batch ({error}); remove it, and look at the provider's "
            "page for a batch whose answers would be paid for again"
        ) from error
