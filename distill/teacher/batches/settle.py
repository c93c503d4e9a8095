"""How the requests of a batch end: with answers, with a stored failure, or in a new round."""

from __future__ import annotations

import collections
from collections.abc import Callable

from distill.common.progress import to_stderr
from distill.common.terminal import printable
from distill.teacher.batches.ledger import Asked, Entry
from distill.teacher.batches.results import Failed, Outcome, ResultReader
from distill.teacher.endpoint.outcomes import Doubtful, Permanent, Reason, Refused
from distill.teacher.job_stats import JobStats
from distill.teacher.samples import record
from distill.teacher.settings import Settings
from distill.teacher.storage.keys import key_of
from distill.teacher.storage.store import Store


class Settlement:
    """The rows of a run that were submitted, and how they end.

    Attributes:
      asked: digests of all of them.
      one_at_a_time: whether the provider refuses to give several samples at once.
      any_answer: whether the job has an answer.
      moved: whether anything has changed since it was last set to False.
      last_failure: what the last row that failed was told.
    """

    def __init__(
        self,
        reader: ResultReader,
        settings: Settings,
        store: Store,
        stats: JobStats,
        on_row: Callable[[], object],
    ) -> None:
        """Starts without rows.

        Args:
          reader: of the results.
          settings, store: of the job.
          stats: which ends of rows are added to.
          on_row: called when a row has ended.
        """
        self.asked: set[str] = set()
        self.one_at_a_time = self.any_answer = self.moved = False
        self.last_failure = ""
        self._reader, self._settings, self._store = reader, settings, store
        self._stats, self._on_row = stats, on_row
        self._open: dict[str, set[int]] = {}  # samples without an end, by digest
        self._answered: set[str] = set()  # digests with an answer of this run
        self._reasons: dict[str, str] = {}  # of the last failure, by digest
        self._attempts: collections.Counter[str] = collections.Counter()
        self._several = False

    def take_up(self, asked: Asked) -> None:
        """Counts the samples of a request as under way."""
        samples = self._reader.task_of(asked).samples
        self.asked.add(asked.digest)
        if samples:
            self._open.setdefault(asked.digest, set()).update(samples)
        self._stats.asked = len(self.asked)

    def settle(self, entry: Entry, outcome: Outcome) -> str | None:
        """Ends the requests of a batch.

        Args:
          entry: the batch.
          outcome: of reading its results.

        Returns:
          Why no request will be answered; None if others may be.
        """
        self.any_answer |= outcome.stored > 0
        self.moved |= outcome.stored > 0
        self._several |= outcome.several
        problem: str | None = None
        for custom_id, failure in outcome.failures.items():
            lasting = self._fail(entry.requests[custom_id], failure)
            problem = problem or lasting
        for asked in entry.requests.values():
            self._end(asked)
        return problem

    def _fail(self, asked: Asked, failure: Failed) -> str | None:
        """Stores why a request has no answer, if it will not have one; see `settle`."""
        self.last_failure = str(failure)
        if isinstance(failure, Permanent):
            return str(failure)
        is_bad = isinstance(failure, Refused) and failure.reason == Reason.BAD_REQUEST
        may_be_n = is_bad and asked.count > 1 and not self._several
        if (
            isinstance(failure, Doubtful)
            and not self.any_answer
            and not (may_be_n and failure.patient)
        ):
            return failure.otherwise
        if isinstance(failure, Refused):
            if may_be_n:
                if not self.one_at_a_time:
                    self._say(f"{failure}; samples are requested one at a time from now on")
                self.one_at_a_time = self.moved = True
                return None
            self._give_up(asked, failure.reason, str(failure))
            return None
        if failure.reason == Reason.THOUGHT_STOPPED:
            self.moved = True  # the next round sends no stops
            return None
        key = key_of(asked.digest, asked.first)
        self._attempts[key] += 1
        if not self._stats.retries[failure.reason]:
            self._say(f"{failure.reason}: {failure}; requested again in the next batch")
        self._stats.retries[failure.reason] += 1
        if self._attempts[key] >= self._settings.max_attempts:
            self._give_up(asked, failure.reason, str(failure))
        return None

    def _give_up(self, asked: Asked, reason: Reason, message: str) -> None:
        """Stores the failure of the samples of a request that are not stored."""
        task = self._reader.task_of(asked)
        why = {"failure": str(reason), "message": printable(message, keep=""), "batch": True}
        for sample in task.samples:
            fields = record(task, sample, False) | why
            self._store.append(fields)
            self._reader.given_up.add(str(fields["key"]))
        self._reasons[asked.digest] = str(reason)
        self.moved = True

    def _end(self, asked: Asked) -> None:
        """Notes which samples of a request have ended, and whether its row has."""
        left = self._open.get(asked.digest)
        if left is None:
            return
        for sample in asked.samples:
            key = key_of(asked.digest, sample)
            answered = self._store.state(key)
            if answered:
                self._answered.add(asked.digest)
            if answered or key in self._reader.given_up:
                left.discard(sample)
        if left:
            return
        del self._open[asked.digest]
        if asked.digest in self._answered:
            self._stats.answered += 1
        else:
            first = self._store.get(key_of(asked.digest, asked.first)) or {}
            reason = self._reasons.get(asked.digest) or str(first.get("failure"))
            self.last_failure = f"{reason} ({first.get('message')})"
            if not self._stats.reasons[reason]:
                self._say(f"row {asked.row} failed: {reason}: {first.get('message')}")
            self._stats.failed += 1
            self._stats.reasons[reason] += 1
        self._on_row()

    def _say(self, text: str) -> None:
        if self._settings.progress_seconds > 0:
            to_stderr(f"annotate: {text}")
