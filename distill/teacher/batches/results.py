"""The results of a batch: each goes to the store, or has a typed reason why there is no answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from distill.common.text_files import parse_json
from distill.data.examples import Example
from distill.teacher.answers.problems import PAID_FAILURES, shows_thoughts
from distill.teacher.batch_files import answer_of_result, batch_records, without_stored
from distill.teacher.batches.ledger import Asked, Entry
from distill.teacher.budget import Budget
from distill.teacher.early_stop import Readings
from distill.teacher.endpoint.outcomes import Answer, Permanent, Reason, Refused, Retry
from distill.teacher.job_stats import JobStats
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow
from distill.teacher.sampling import Sampling
from distill.teacher.storage.store import Store

Failed = Retry | Refused | Permanent


@dataclasses.dataclass
class Outcome:
    """What the results of a batch were.

    Attributes:
      answered: custom ids of the requests with an answer, and whether one of its samples has a
        label or another answer that counts.
      failures: why other requests have none, by custom id; those without a result are `lost`.
      several: whether a request for several samples was answered.
      stored: samples that were stored.
      passed_over: lines that are no JSON, belong to no request, or repeat an answer.
    """

    answered: set[str] = dataclasses.field(default_factory=set)
    failures: dict[str, Failed] = dataclasses.field(default_factory=dict)
    several: bool = False
    stored: int = 0
    passed_over: int = 0


class ResultReader:
    """Stores the answers of batches.

    Attributes:
      reasons: whether answers have shown that the model writes thoughts.
      given_up: keys of samples that are not asked for again in this run.
    """

    def __init__(
        self,
        prompt: Prompt,
        sampling: Sampling,
        any_model: bool,
        store: Store,
        stats: JobStats,
        budget: Budget,
        readings: Readings,
        row_of: Callable[[str], Example | None],
    ) -> None:
        """Takes what answers are checked with, and where they are counted.

        Args:
          prompt, sampling, any_model: of the job.
          store: where answers go.
          stats, budget, readings: which they are added to.
          row_of: the row with a digest, None if the rows of today have none.
        """
        self.reasons = False
        self.given_up: set[str] = set()
        self._prompt, self._sampling, self._any_model = prompt, sampling, any_model
        self._store, self._stats, self._budget = store, stats, budget
        self._readings, self._row_of = readings, row_of

    def task_of(self, asked: Asked) -> PendingRow:
        """The row of a request, with those of its samples that have no answer."""
        row = self._row_of(asked.digest) or Example(id=asked.row, input="")
        return without_stored(PendingRow(row, asked.digest, tuple(asked.samples)), self._store)

    def read(self, entry: Entry, contents: Iterable[bytes]) -> Outcome:
        """Stores the answers in the files of a batch, in any order.

        Results that are stored already are passed over, so files may be read again.

        Args:
          entry: the batch.
          contents: its files of results and of failed requests.
        """
        outcome = Outcome()
        for content in contents:
            for line in content.splitlines():
                if line.strip():
                    self._read_line(entry, line, outcome)
        for custom_id in entry.requests.keys() - outcome.answered - outcome.failures.keys():
            message = f"batch {entry.batch_id} ended without a result of this request"
            outcome.failures[custom_id] = Retry(Reason.LOST, message)
        return outcome

    def _read_line(self, entry: Entry, line: bytes, outcome: Outcome) -> None:
        try:
            fields: object = parse_json(line)
        except ValueError:
            fields = None
        custom_id = fields.get("custom_id") if isinstance(fields, Mapping) else None
        asked = entry.requests.get(custom_id) if isinstance(custom_id, str) else None
        if asked is None or custom_id in outcome.answered:
            outcome.passed_over += 1
            return
        assert isinstance(fields, Mapping) and isinstance(custom_id, str)
        task = self.task_of(asked)
        if not task.samples:  # stored by a process that was killed before it had read all
            outcome.answered.add(custom_id)
            outcome.failures.pop(custom_id, None)
            return
        try:
            answer = answer_of_result(fields, self._sampling.model, self._any_model, entry.base_url)
            outcome.stored += self._store_answer(entry, task, asked, answer)
        except (Retry, Refused, Permanent) as failure:
            tokens = failure.tokens if isinstance(failure, Retry) else None
            if tokens:  # an answer of no use is paid for too
                self._budget.count(task.row, tokens)
            outcome.failures.setdefault(custom_id, failure)
            return
        outcome.answered.add(custom_id)
        outcome.failures.pop(custom_id, None)
        outcome.several |= asked.count > 1

    def _store_answer(self, entry: Entry, task: PendingRow, asked: Asked, answer: Answer) -> int:
        """Stores an answer; gives the number of samples.

        Raises:
          Retry: a stop ended it inside the model's thoughts; without stops it would go on.
        """
        self.reasons |= self._sampling.reasoning == "auto" and shows_thoughts(answer)
        records = list(batch_records(task, asked.samples, answer, self._prompt, self._sampling))
        usages = [record["usage"] for record in records]
        tokens = answer.tokens or (
            sum(usage["in"] for usage in usages),  # type: ignore[index]
            sum(usage["out"] for usage in usages),  # type: ignore[index]
        )
        stopped = any(record.get("failure") == Reason.THOUGHT_STOPPED for record in records)
        if stopped and entry.stops and self.reasons:
            message = "a stop ended the completion inside the model's thoughts"
            raise Retry(Reason.THOUGHT_STOPPED, message, tokens=tokens)
        self._budget.count(task.row, tokens)
        self._stats.estimated += answer.tokens is None
        known = self._row_of(task.digest) is not None
        for record in records:
            self._store.append(record)
            if not record["ok"]:
                self.given_up.add(str(record["key"]))
            counts = record["ok"] or record["failure"] in PAID_FAILURES
            if counts and known:
                self._stats.read += 1
                self._stats.parsed += self._readings.add(task.row, record)
        return len(records)
