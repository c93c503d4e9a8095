"""The job: asks for every sample of every row that is not stored, and stores what comes.

A row ends exactly once: with its answers, or with the typed reason of its failure. The
order of answers is that of the endpoint; nothing depends on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import threading
from collections.abc import Callable, Sequence

from distill.common.phrases import are, number_of
from distill.common.progress import to_stderr
from distill.common.terminal import printable
from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.answers.problems import PAID_FAILURES
from distill.teacher.budget import Budget, check_price
from distill.teacher.early_stop import AT_ONCE, PROBED, Readings, read_stored
from distill.teacher.endpoint.client import Client
from distill.teacher.endpoint.outcomes import Answer, Doubtful, Permanent, Reason
from distill.teacher.endpoint.requests import Requests, RowFailed, Unaffordable
from distill.teacher.job_progress import JobProgress
from distill.teacher.job_stats import JobStats
from distill.teacher.prices import Price
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow, answer_records, first_run, pending_rows, record
from distill.teacher.sampling import Digests, Sampling
from distill.teacher.settings import Settings
from distill.teacher.storage.store import Store

_UNDECIDED = {Reason.FORBIDDEN: 3, Reason.BAD_REQUEST: PROBED}  # rows refused before any answer


class Interrupted(Exception):
    """Ctrl-C ended a job; what was under way is stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Stored:
    """What came of a sample: whether it has a label, or why it has no answer."""

    labeled: bool
    problem: RowFailed | None


class Job:
    """One run of a job; see `run_job`."""

    def __init__(
        self,
        rows: Sequence[Example],
        prompt: Prompt,
        sampling: Sampling,
        settings: Settings,
        store: Store,
        client: Client,
        price: Price | None = None,
    ) -> None:
        check_price(settings, price, sampling.model)
        self.prompt, self.sampling, self.settings = prompt, sampling, settings
        self.store, self.client = store, client
        self.stats = JobStats(price)
        self.stopped: str | None = None  # why the run ended before its rows did
        self.error: str | None = None  # why no run can go on
        self.last_failure = ""  # what the last row that failed was told
        self._budget = Budget(self.stats, settings.max_cost, prompt, sampling)
        self._requests = Requests(
            client,
            prompt,
            sampling,
            settings,
            self.stats,
            self._budget,
            self._sleep,
            self._check_running,
        )
        digests = Digests(prompt, sampling)
        self._missing = pending_rows(rows, digests, settings.samples, store, settings.retry_failed)
        self._readings = Readings(prompt, settings.min_parsed)
        thoughts = read_stored(self._readings, rows, digests, store, settings.retry_failed)
        self._requests.reasons = thoughts and sampling.reasoning == "auto"
        self._progress = JobProgress(len(rows), settings, self.stats.note)
        self._under_way = self._failed_in_turn = 0
        self._undecided: list[tuple[PendingRow, Sequence[int], Doubtful]] = []
        self._halted, self._interrupted = asyncio.Event(), False

    async def run(self) -> JobStats:
        """Asks for what is missing.

        Raises:
          UserError: the endpoint refuses all requests, or rows fail one after the other, or
            their answers cannot be read; what was answered before is stored.
          Interrupted: the same, on Ctrl-C.
        """
        ticker = asyncio.create_task(self._tick())
        remove = self._stop_on_interrupt()
        most = self.settings.concurrency
        try:
            await self._work(lambda: self.stats.asked >= 1)
            workers = (self._work(self._is_probed) for _ in range(min(AT_ONCE, most)))
            await asyncio.gather(*workers)
            await asyncio.gather(*(self._work(lambda: False) for _ in range(most)))
            self._give_up_undecided()
        finally:
            ticker.cancel()
            remove()
            try:
                self.store.sync()
            except UserError as error:
                self._fail(str(error))
            self._progress.report()
            self._progress.close()
            await self.client.close()
        if self.error:
            kind, count = Interrupted if self._interrupted else UserError, self.stats.answered
            stored = f"{number_of(count, 'row')} of this run {are(count)} stored"
            raise kind(f"{self.error}. {stored}{self._resumes()}")
        return self.stats

    def _resumes(self) -> str:
        """How many rows failed, and how a run that ended early goes on."""
        failed = f", and {self.stats.failed:,} as failed" if self.stats.failed else ""
        if self._readings.why_stop():
            return failed
        again = ", and with --retry_failed it requests the failed rows again" if failed else ""
        return f"{failed}; the same command resumes there{again}"

    def _is_probed(self) -> bool:
        """Whether it is known by now what the endpoint answers."""
        return self._readings.is_probed or self.stats.answered + self.stats.failed >= 2 * PROBED

    async def _work(self, is_over: Callable[[], bool]) -> None:
        """One worker: rows from the common list until there are none, or the run stops."""
        while not (self.stopped or self.error or is_over()):
            try:
                task = next(self._missing)
            except StopIteration:
                return
            if task is None:
                self._progress.skip()
                if self._progress.n % 1000 == 0:
                    await asyncio.sleep(0)
                continue
            if not await self._may_ask(task):
                return
            self.stats.asked += 1
            try:
                await self._ask_row(task)
            except (Permanent, UserError) as error:
                self._fail(str(error))

    def _fail(self, reason: str) -> None:
        """Ends the run: what is under way is awaited and stored, what waits gives up."""
        self.error = self.error or reason
        self._halted.set()

    def _check_running(self) -> None:
        """Raises Permanent if the run has ended."""
        if self.error:
            raise Permanent(self.error)

    async def _sleep(self, seconds: float) -> None:
        """Waits.

        Raises:
          Permanent: the run ended meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._halted.wait()
        except TimeoutError:
            return
        raise Permanent(self.error)

    async def _may_ask(self, task: PendingRow) -> bool:
        """Whether the answers so far, rows and budget allow another row."""
        settings = self.settings
        if reason := self._readings.why_stop():
            self._fail(reason)
        while not (self.stopped or self.error):
            if settings.max_rows is not None and self.stats.asked >= settings.max_rows:
                self.stopped = "max_rows"
                break
            if self._budget.fits(task):
                return True
            if not self._under_way:
                self.stopped = "max_cost"
            await asyncio.sleep(0.02)  # what is under way may cost less than was reserved
        return False

    async def _ask_row(self, task: PendingRow) -> None:
        """Asks until every sample of a row is stored, answered or failed."""
        self._under_way += 1
        remaining = list(task.samples)
        answered = labeled = False
        problem: RowFailed | None = None
        try:
            with self._budget.reserving(task):
                while remaining:
                    run = first_run(remaining)[: 1 if self._requests.one_at_a_time else None]
                    answer, attempts = await self._requests.ask(task.row, len(run), run[0])
                    self._settle_undecided()
                    stored = self._store_answer(task, run, answer, attempts)
                    if not stored:
                        raise RowFailed(Reason.SERVER_ERROR, "no sample was answered to its end")
                    remaining = [sample for sample in remaining if sample not in stored]
                    answered |= any(each.problem is None for each in stored.values())
                    labeled |= any(each.labeled for each in stored.values())
                    problem = next((each.problem for each in stored.values()), None)
            if not answered and problem:
                raise problem
            self.stats.answered += 1
            self._progress.update()
            self._end_in_turn(labeled or not self._readings.wants_labels, "")
            if reason := self._readings.why_stop():
                self._fail(reason)
        except RowFailed as failure:
            self._fail_row(task, remaining, failure)
        except Doubtful as refusal:
            self._undecided.append((task, remaining, refusal))
            if self._requests.answered:
                self._settle_undecided()
            elif len(self._undecided) >= _UNDECIDED[refusal.reason]:
                self._give_up_undecided()
        except Unaffordable:
            self.stopped = "max_cost"
            self.stats.asked -= 1
        finally:
            self._under_way -= 1

    def _fail_row(self, task: PendingRow, remaining: Sequence[int], failure: RowFailed) -> None:
        """Stores why a row has no answer."""
        for sample in remaining:
            text = printable(str(failure), keep="")
            why = {"failure": str(failure.reason), "message": text}
            self.store.append(record(task, sample, False) | why)
        self.last_failure = str(failure)
        self.stats.failed += 1
        self._progress.update()
        if not self.stats.reasons[failure.reason] and self.settings.progress_seconds > 0:
            to_stderr(f"annotate: row {task.row.id} failed: {failure.reason}: {failure}")
        self.stats.reasons[failure.reason] += 1
        self._end_in_turn(False, f"{failure.reason} ({failure})")

    def _end_in_turn(self, good: bool, failure: str) -> None:
        """Stops the run after too many rows in turn that failed, or have no label.

        Args:
          good: whether the row has a label.
          failure: why it has no answer, "" for one without a label.
        """
        self._failed_in_turn = 0 if good else self._failed_in_turn + 1
        if self._failed_in_turn < self.settings.max_failures:
            return
        if failure:
            self._fail(f"{self._failed_in_turn} consecutive rows failed, the last with {failure}")
        else:
            self._fail(
                f"no label could be read from {self._failed_in_turn} consecutive rows. "
                f"{self._readings.describe()} --min_parsed=0 continues in any case"
            )

    def _settle_undecided(self) -> None:
        """Others were answered, so that rows which were refused before were meant alone."""
        undecided, self._undecided = self._undecided, []
        for task, remaining, refusal in undecided:
            self._fail_row(task, remaining, RowFailed(refusal.reason, str(refusal)))

    def _give_up_undecided(self) -> None:
        """None was answered: the refusals are about the job, and no row has failed."""
        if self._undecided:
            ids = ", ".join(task.row.id for task, _, _ in self._undecided[:3])
            self._fail(f"{self._undecided[-1][2].otherwise}; asked first for: {ids}")

    def _store_answer(
        self, task: PendingRow, run: Sequence[int], answer: Answer, attempts: int
    ) -> dict[int, _Stored]:
        """Stores an answer; gives what came of each sample."""
        tokens = answer.tokens
        if tokens is None:
            read = self._budget.prompt_tokens(task.row)
            tokens = (read, sum(self.stats.tokens_of(len(t)) for t in answer.texts[: len(run)]))
            self.stats.estimated += 1
        self._budget.count(task.row, tokens)
        metadata = {
            "seconds": round(answer.seconds, 4),
            "model": answer.model,
            "attempts": attempts,
        }
        stored: dict[int, _Stored] = {}
        for sample, fields in answer_records(task, run, answer, tokens):
            self.store.append(fields | metadata)
            problem = None
            if not fields["ok"]:
                problem = RowFailed(Reason(str(fields["failure"])), str(fields["message"]))
            # A row that a filter refuses says nothing about how the others are answered.
            counts = problem is None or problem.reason in PAID_FAILURES
            labeled = counts and self._readings.add(task.row, fields)
            self.stats.read += counts
            self.stats.parsed += labeled
            stored[sample] = _Stored(labeled, problem)
        return stored

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            try:
                self.store.sync_if_due()
            except UserError as error:
                self._fail(str(error))
            self._progress.refresh()

    def _stop_on_interrupt(self) -> Callable[[], object]:
        """On Ctrl-C what is under way is finished and stored; gives what undoes this."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self._interrupted = True
            self._fail("interrupted")
            rows = number_of(self._under_way, "row")
            to_stderr(f"Ctrl-C: waiting for {rows} under way; press it again to stop at once")
            loop.remove_signal_handler(signal.SIGINT)  # a second one ends the process

        loop.add_signal_handler(signal.SIGINT, stop)
        return lambda: loop.remove_signal_handler(signal.SIGINT)


def run_job(job: Job) -> JobStats:
    """Runs a job to its end; see `Job.run`.

    Raises:
      KeyboardInterrupt: Ctrl-C ended it.
    """
    try:
        return asyncio.run(job.run())
    except Interrupted as interrupt:
        raise KeyboardInterrupt(str(interrupt)) from None
