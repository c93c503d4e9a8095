"""A job in batches: what is not stored is submitted, awaited, and what has no answer goes again.

The first batch holds 20 answers. The rest is submitted once enough of those can be read. Each
further round asks for what expired, failed for a passing reason, or has no result.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Iterator, Sequence

from distill.common.phrases import number_of
from distill.common.progress import to_stderr
from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.batch_files import MAX_BYTES, request_line, runs_of
from distill.teacher.batches.ledger import Asked, Entry, Ledger
from distill.teacher.batches.provider import Batch, Provider
from distill.teacher.batches.results import Outcome, ResultReader
from distill.teacher.batches.running import Running
from distill.teacher.batches.settings import Batching
from distill.teacher.batches.settle import Settlement
from distill.teacher.budget import Budget, check_price
from distill.teacher.early_stop import PROBED, Readings, read_stored
from distill.teacher.endpoint.client import Client
from distill.teacher.endpoint.outcomes import Reason, Retry
from distill.teacher.job_progress import JobProgress
from distill.teacher.job_stats import JobStats
from distill.teacher.prices import Price
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow, pending_rows
from distill.teacher.sampling import PATHS, Digests, Sampling
from distill.teacher.settings import Settings
from distill.teacher.storage.keys import key_of
from distill.teacher.storage.store import Store

_STRIKES = 3  # rounds in turn without an answer
_LOOKS = 3  # for results that a completed batch does not have yet
_FIRST_POLL = 2.0  # seconds; later ones double, up to --batch_poll_seconds


class BatchJob:
    """One run of a job in batches; see `run_batch_job`.

    Attributes:
      stats: what it did.
      batches: those whose results were read.
      stopped: why the run ended before its rows did, or None.
      running: the batches under way.
    """

    def __init__(
        self,
        rows: Sequence[Example],
        prompt: Prompt,
        sampling: Sampling,
        settings: Settings,
        batching: Batching,
        store: Store,
        client: Client,
        price: Price | None = None,
        any_model: bool = False,
    ) -> None:
        check_price(settings, price, sampling.model)
        self.stats = JobStats(price.batched() if price else None)
        self.batches = 0
        self.stopped: str | None = None
        self._rows, self._prompt, self._sampling = rows, prompt, sampling
        self._settings, self._batching = settings, batching
        self._store, self._client = store, client
        self._budget = Budget(self.stats, settings.max_cost, prompt, sampling)
        self._digests = Digests(prompt, sampling)
        provider = Provider(client, settings, batching)
        self.running = Running(provider, Ledger(store.path), self._digests.head, self._say)
        self._progress = JobProgress(
            len(rows),
            settings,
            lambda: "; ".join(filter(None, (self.stats.note(), self.running.note()))),
        )
        self._places: dict[bytes, int] = {}  # digest -> number of a row that is not stored
        for number, task in enumerate(self._missing()):
            if task is None:
                self._progress.skip()
            else:
                self._places[bytes.fromhex(task.digest)] = number
        self._readings = Readings(prompt, settings.min_parsed)
        self._reader = ResultReader(
            prompt,
            sampling,
            any_model,
            store,
            self.stats,
            self._budget,
            self._readings,
            self._row_of,
        )
        thoughts = read_stored(self._readings, rows, self._digests, store, settings.retry_failed)
        self._reader.reasons = thoughts and sampling.reasoning == "auto"
        self._rest = Settlement(self._reader, settings, store, self.stats, self._progress.update)
        self._rest.any_answer = self._readings.read > 0
        self._reserved: dict[str, float] = {}  # by tag
        self._submitted = self._strikes = 0

    @property
    def last_failure(self) -> str:
        """What the last row that failed was told."""
        return self._rest.last_failure

    async def run(self) -> JobStats:
        """Asks for what is missing.

        Raises:
          UserError: the provider refuses, batches end without answers, or their answers cannot be
            read. What runs goes on, and the same command resumes.
        """
        try:
            for entry in await self.running.resume():
                held = 0.0
                for asked in entry.requests.values():
                    held += self._budget.reserve(self._reader.task_of(asked))
                self._take_up(entry, held)
            self._progress.allow(len(self._rest.asked))
            await self._finish()
            while await self._submit_round():
                await self._finish()
                self._count_strikes()
        except UserError as error:
            running = self.running.describe()
            raise UserError(f"{error}; {running}" if running else str(error)) from None
        finally:
            self._store.sync()
            self._progress.report()
            self._progress.close()
            await self._client.close()
        return self.stats

    def _missing(self) -> Iterator[PendingRow | None]:
        samples, retry_failed = self._settings.samples, self._settings.retry_failed
        return pending_rows(self._rows, self._digests, samples, self._store, retry_failed)

    def _row_of(self, digest: str) -> Example | None:
        place = self._places.get(bytes.fromhex(digest))
        return None if place is None else self._rows[place]

    def _say(self, text: str) -> None:
        if self._settings.progress_seconds > 0:
            to_stderr(f"annotate: {text}")

    def _take_up(self, entry: Entry, held: float) -> None:
        """Counts the requests of a batch as under way."""
        self._reserved[entry.tag] = held
        for asked in entry.requests.values():
            self._rest.take_up(asked)

    def _tasks(self) -> Iterator[PendingRow]:
        """The rows of the next round, as far as --max_rows and --max_cost allow."""
        settings, given = self._settings, 0
        most: int | None = None
        ended = self.stats.answered + self.stats.failed
        if self._readings.wants_labels and not self._readings.is_probed and ended < 2 * PROBED:
            most = -(-PROBED // settings.samples)
        self.stopped = None
        asked = set(self._rest.asked)
        for task in self._missing():
            if given == most:
                return
            if task is None:
                continue
            digest, given_up = task.digest, self._reader.given_up
            kept = tuple(s for s in task.samples if key_of(digest, s) not in given_up)
            if not kept:
                continue
            at_bound = settings.max_rows is not None and len(asked) >= settings.max_rows
            if at_bound and digest not in asked:
                self.stopped = "max_rows"
                continue
            task = dataclasses.replace(task, samples=kept)
            if not self._budget.fits(task):
                self.stopped = "max_cost"
                return
            asked.add(digest)
            given += 1
            yield task

    async def _submit_round(self) -> bool:
        """Submits batches of what is missing; whether there was anything."""
        if reason := self._readings.why_stop():
            raise UserError(reason)
        lines: list[str] = []
        requests: dict[str, Asked] = {}
        size, held = 0, 0.0
        self._submitted, self._rest.moved = 0, False
        longest = 1 if self._rest.one_at_a_time else None
        for task in self._tasks():
            reserved = self._budget.reserve(task)
            for run in runs_of(task.samples, longest):
                custom_id, line = request_line(
                    task, run, self._prompt, self._sampling, self._reader.reasons
                )
                full = len(lines) >= self._batching.requests or size + len(line) > MAX_BYTES
                if lines and full:
                    await self._submit(lines, requests, held)
                    lines, requests, size, held = [], {}, 0, 0.0
                lines.append(line)
                requests[custom_id] = Asked(task.row.id, task.digest, run[0], len(run))
                size += len(line)
            held += reserved
        if lines:
            await self._submit(lines, requests, held)
        return self._submitted > 0

    async def _submit(self, lines: list[str], requests: dict[str, Asked], held: float) -> None:
        """Submits one batch."""
        stops = bool(self._sampling.sent_stops(self._reader.reasons))
        path = f"/v1{PATHS[self._sampling.api]}"
        entry = await self.running.submit("".join(lines).encode(), requests, path, stops)
        self._take_up(entry, held)
        self._submitted += 1
        self.stats.requests += len(requests)

    async def _finish(self) -> None:
        """Waits until no batch is under way, and reads the results of each."""
        wait = min(_FIRST_POLL, self._batching.poll_seconds)
        looks: collections.Counter[str] = collections.Counter()
        while self.running.entries:
            for entry in list(self.running.entries.values()):
                batch = await self.running.state(entry)
                if batch.lacks_files and looks[entry.tag] < _LOOKS:
                    looks[entry.tag] += 1
                elif batch.has_ended:
                    await self._read(entry, batch)
            self._progress.refresh()
            if self.running.entries:
                await asyncio.sleep(wait)
                wait = min(2 * wait, self._batching.poll_seconds)

    async def _read(self, entry: Entry, batch: Batch) -> None:
        """Stores the results of a batch that has ended."""
        contents = await self.running.contents(entry, batch)
        alone = len(self.running.entries) == 1 and self._submitted <= 1
        refused = batch.status == "failed" and not contents
        outcome = Outcome() if refused else self._reader.read(entry, contents)
        self._check_model(outcome)
        problem = self._rest.settle(entry, outcome)
        self._store.sync()
        self.running.remove(entry)
        self._budget.release(self._reserved.pop(entry.tag))
        self.batches += 1
        if outcome.passed_over:
            self._say(
                f"batch {batch.id}: passed over {number_of(outcome.passed_over, 'result')} that "
                "repeated an answer, belonged to no request or were not JSON"
            )
        if refused:
            self._check_refused(batch, alone)
        if batch.status.startswith("cancel") and not entry.cancelled:
            problem = problem or (
                f"batch {batch.id} was cancelled at the provider; its answers so far are stored, "
                "and the same command requests the others again"
            )
        if problem:
            raise UserError(problem)
        if reason := self._readings.why_stop():
            await self.running.cancel_all()
            raise UserError(reason)

    def _check_model(self, outcome: Outcome) -> None:
        """Ends the run if another model answered; the batch stays to be read with --any_model."""
        if self._rest.any_answer or outcome.stored:
            return
        for failure in outcome.failures.values():
            if isinstance(failure, Retry) and failure.reason == Reason.WRONG_MODEL:
                raise UserError(
                    f"{self._client.base_url}: {failure}, or name that model with --model"
                )

    def _check_refused(self, batch: Batch, alone: bool) -> None:
        """Ends the run if the provider refused a batch; one that was too much for now waits."""
        said = "; ".join(f"{code}: {text}" for code, text in batch.errors[:3])
        if any("limit" in code for code, _ in batch.errors):
            if not alone:
                self._rest.moved = True
                return
            said += "; lower --batch_requests"
        raise UserError(f"the provider refuses batch {batch.id}: {said or 'no reason given'}")

    def _count_strikes(self) -> None:
        """Ends the run after too many rounds without an answer."""
        self._strikes = 0 if self._rest.moved else self._strikes + 1
        if self._strikes >= _STRIKES:
            reasons = ", ".join(f"{n:,} {name}" for name, n in self.stats.retries.items())
            raise UserError(
                f"{_STRIKES} rounds of batches in a row ended without any answer ({reasons}; the "
                f"last: {self.last_failure}); the same command continues"
            )


def run_batch_job(job: BatchJob) -> JobStats:
    """Runs a job to its end; see `BatchJob.run`.

    Raises:
      KeyboardInterrupt: Ctrl-C ended it; it says what goes on at the provider.
    """
    try:
        return asyncio.run(job.run())
    except KeyboardInterrupt:
        running = job.running.describe()
        raise KeyboardInterrupt(
            f"interrupted; {running}" if running else "interrupted; the same command resumes"
        ) from None
