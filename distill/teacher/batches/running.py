"""The batches of a job at the provider: submitted once, found again, looked at, cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from distill.common.phrases import are, number_of
from distill.errors import UserError
from distill.teacher.batches.ledger import Asked, Entry, Ledger, new_tag
from distill.teacher.batches.provider import Batch, NotFound, Provider, Unreachable

_SHOWN = 3  # batches that a message names


class Running:
    """The batches under way.

    Attributes:
      entries: by tag.
    """

    def __init__(
        self, provider: Provider, ledger: Ledger, head: str, say: Callable[[str], object]
    ) -> None:
        """Starts without batches.

        Args:
          provider: where they run.
          ledger: where they are noted.
          head: digest of the prompt and the settings.
          say: tells the user something.
        """
        self.entries: dict[str, Entry] = {}
        self._provider, self._ledger, self._head, self._say = provider, ledger, head, say
        self._states: dict[str, Batch] = {}

    async def submit(
        self, content: bytes, requests: dict[str, Asked], path: str, stops: bool
    ) -> Entry:
        """Submits a batch; it is noted before, so that it is found whatever happens.

        Args:
          content: the file of requests.
          requests: what it asks, by custom id.
          path: of the API that the requests are for.
          stops: whether stops are sent.
        """
        tag = new_tag()
        file_id = await self._provider.upload(f"{tag}.jsonl", content)
        entry = Entry(tag, self._head, self._provider.base_url, file_id, requests, stops)
        self._ledger.save(entry)
        self.entries[tag] = entry
        try:
            batch = await self._provider.create(entry, path)
        except Unreachable:
            raise  # it may be there
        except UserError:
            self.remove(entry)
            raise
        entry.batch_id = batch.id
        self._ledger.save(entry)
        self._states[tag] = batch
        self._say(f"batch {batch.id} submitted: {number_of(len(requests), 'request')}")
        return entry

    async def resume(self) -> list[Entry]:
        """Takes up the batches of earlier runs.

        Raises:
          UserError: they are at another provider, or it cannot be known whether one was submitted.
        """
        entries = self._ledger.entries()
        own = [entry for entry in entries if entry.head == self._head]
        if others := len(entries) - len(own):
            self._say(
                f"{number_of(others, 'batch')} of another prompt or other settings {are(others)} "
                "left to the command that submitted them"
            )
        for entry in own:
            if entry.base_url != self._provider.base_url:
                raise UserError(
                    f"{entry.batch_id or entry.tag} was submitted to {entry.base_url}: give "
                    f"--base_url={entry.base_url}. {self._forget(entry)}"
                )
        for entry in own:
            if not entry.batch_id:
                found = await self._find(entry)
                if found is None:
                    self._ledger.remove(entry)
                    continue
                entry.batch_id = found.id
                self._ledger.save(entry)
            self.entries[entry.tag] = entry
            self._say(
                f"batch {entry.batch_id} of an earlier run is taken up: "
                f"{number_of(len(entry.requests), 'request')}"
            )
        return list(self.entries.values())

    async def state(self, entry: Entry) -> Batch:
        """What the provider says of a batch.

        Raises:
          UserError: it does not know it.
        """
        try:
            batch = await self._provider.get(entry.batch_id)
        except NotFound as error:
            found = await self._find(entry)
            if found is None:
                raise UserError(
                    f"{error}: the provider does not know batch {entry.batch_id}. Use the key of "
                    f"the project that submitted it. {self._forget(entry)}"
                ) from None
            entry.batch_id = found.id
            self._ledger.save(entry)
            batch = found
        self._states[entry.tag] = batch
        return batch

    async def contents(self, entry: Entry, batch: Batch) -> list[bytes]:
        """The files of results of a batch that has ended.

        Raises:
          UserError: they are gone.
        """
        try:
            return [await self._provider.download(name) for name in batch.files]
        except NotFound as error:
            raise UserError(
                f"{error}: the results of batch {batch.id} are no longer at the provider. "
                f"{self._forget(entry)}"
            ) from None

    def remove(self, entry: Entry) -> None:
        """Forgets a batch: its results are stored, or it was not submitted."""
        self._ledger.remove(entry)
        del self.entries[entry.tag]

    async def cancel_all(self) -> None:
        """Ends what is under way; the answers so far are fetched by the next run."""
        for entry in self.entries.values():
            entry.cancelled = True
            self._ledger.save(entry)
            with contextlib.suppress(UserError):  # it has ended meanwhile
                await self._provider.cancel(entry.batch_id)

    def note(self) -> str:
        """The states of the batches, for a progress line."""
        states = [self._states[tag] for tag in self.entries if tag in self._states]
        shown = [
            f"{batch.id} {batch.status} {batch.counts.get('completed', 0):,}/"
            f"{batch.counts.get('total', 0):,}"
            for batch in states[:_SHOWN]
        ]
        more = [f"{len(states) - _SHOWN:,} more batches"] if len(states) > _SHOWN else []
        return ", ".join([*shown, *more])

    def describe(self) -> str:
        """What goes on at the provider; "" if nothing does."""
        if not self.entries:
            return ""
        names = [entry.batch_id or entry.tag for entry in self.entries.values()]
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        return (
            f"still at the provider: {', '.join(names[:_SHOWN])}{more}; the same command fetches "
            "the answers"
        )

    async def _find(self, entry: Entry) -> Batch | None:
        """The batch of an entry, by its tag; None if it was not submitted."""
        try:
            return await self._provider.find(entry)
        except NotFound as error:
            raise UserError(
                f"{error}. Whether the file {entry.file_id} was submitted is therefore not known: "
                "look at the provider's page. If it was not, remove "
                f"{self._ledger.path_of(entry)}"
            ) from None

    def _forget(self, entry: Entry) -> str:
        return (
            f"To give up its {number_of(len(entry.requests), 'answer')} and pay for them again, "
            f"remove {self._ledger.path_of(entry)}"
        )
