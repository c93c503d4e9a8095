"""The job: asks for every sample of every row that is not stored, and stores what comes.

A row ends exactly once: with its answers, or with the typed reason of its failure. The
order of answers is that of the endpoint; nothing depends on it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence

from distill.common.progress import Progress, to_stderr
from distill.common.terminal import printable
from distill.data.examples import Example
from distill.errors import UserError
from distill.teacher.client import Answer, Client, Permanent, Reason, Refused, Retry
from distill.teacher.job_stats import JobStats
from distill.teacher.limits import Limits, backoff, jitter
from distill.teacher.prices import Price
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow, answer_records, first_run, pending_rows, record
from distill.teacher.sampling import PATHS, Digests, Sampling
from distill.teacher.settings import Settings
from distill.teacher.store import Store


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
        self.check_price(settings, price, sampling.model)
        self.prompt, self.sampling, self.settings = prompt, sampling, settings
        self.store, self.client = store, client
        self.limits = Limits(
            settings.requests_per_minute, settings.tokens_per_minute, sleep=self._sleep
        )
        self.stats = JobStats(price)
        self.stopped: str | None = None  # why the run ended before its rows did
        self.error: str | None = None  # why no run can go on
        self.last_failure = ""  # what the last row that failed was told
        digests = Digests(prompt, sampling)
        self._missing = pending_rows(rows, digests, settings.samples, store, settings.retry_failed)
        self._progress = Progress(
            len(rows),
            "annotate",
            period=settings.progress_seconds,
            note=self.stats.note,
            smoothing=0,  # answers come in bursts: the mean rate says more than that of the last
            disable=settings.progress_seconds <= 0,
        )
        self._reserved, self._under_way = 0.0, 0
        self._failed_in_turn, self._halted = 0, asyncio.Event()
        self._prefix_characters = len(prompt.prefix(sampling.api))

    @staticmethod
    def check_price(settings: Settings, price: Price | None, model: str) -> None:
        """A bound of costs needs a price.

        Raises:
          UserError: there is none.
        """
        if settings.max_cost is not None and price is None:
            raise UserError(f"--max_cost needs the price of {model!r}: give a file with --prices")

    async def run(self) -> JobStats:
        """Asks for what is missing.

        Raises:
          UserError: the endpoint refuses all requests, or rows fail one after the other;
            what was answered before is stored.
        """
        ticker = asyncio.create_task(self._tick())
        remove = self._stop_on_interrupt()
        try:
            await asyncio.gather(*(self._work() for _ in range(self.settings.concurrency)))
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
            raise UserError(
                f"{self.error}. {self.stats.answered:,} rows of this run are stored; the same "
                "command resumes there"
            )
        return self.stats

    async def _work(self) -> None:
        """One worker: rows from the common list until there are none, or the run stops."""
        while not (self.stopped or self.error):
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
        """Whether rows and budget allow another row."""
        settings = self.settings
        while not (self.stopped or self.error):
            if settings.max_rows is not None and self.stats.asked >= settings.max_rows:
                self.stopped = "max_rows"
                break
            if settings.max_cost is None:
                return True
            worst = self._worst_cost(task)
            if (self.stats.cost or 0.0) + self._reserved + worst <= settings.max_cost:
                return True
            if not self._under_way:
                self.stopped = "max_cost"
            await asyncio.sleep(0.02)  # what is under way may cost less than was reserved
        return False

    def _prompt_tokens(self, row: Example) -> int:
        return self.stats.tokens_of(self._prefix_characters + len(row.input))

    def _worst_cost(self, task: PendingRow) -> float:
        written = self.sampling.longest * len(task.samples)
        # A server that ignores n is sent the prompt again for each sample.
        read = self._prompt_tokens(task.row) * len(task.samples)
        return self.stats.price.of(read, written) if self.stats.price else 0.0

    async def _ask_row(self, task: PendingRow) -> None:
        """Asks until every sample of a row is stored, answered or failed."""
        reserved = self._worst_cost(task) if self.settings.max_cost is not None else 0.0
        self._reserved += reserved
        self._under_way += 1
        remaining = list(task.samples)
        try:
            while remaining:
                run = first_run(remaining)
                answer, attempts = await self._ask(task.row, len(run), run[0])
                self._store_answer(task, run, answer, attempts)
                remaining = remaining[min(len(run), len(answer.texts)) :]
            self.stats.answered += 1
            self._progress.update()
            self._failed_in_turn = 0
        except _RowFailed as failure:
            for sample in remaining:
                self._store_failure(task, sample, failure)
            self.last_failure = str(failure)
            self.stats.failed += 1
            self._progress.update()
            self.stats.reasons[failure.reason] += 1
            self._failed_in_turn += 1
            if self._failed_in_turn >= self.settings.max_failures:
                self._fail(
                    f"{self._failed_in_turn} consecutive rows failed, the last with "
                    f"{failure.reason} ({failure}); use --retry_failed to request them again"
                )
        except _Unaffordable:
            self.stats.asked -= 1
        finally:
            self._under_way -= 1
            self._reserved -= reserved

    async def _ask(self, row: Example, count: int, first: int) -> tuple[Answer, int]:
        """An answer with at least one sample, and the number of attempts.

        Raises:
          _RowFailed: no attempt was answered. Permanent: no attempt will be.
          _Unaffordable: another attempt may cost too much.
        """
        settings = self.settings
        body = self.sampling.body(self.prompt, row, count, first)
        expected = self._prompt_tokens(row) + self.sampling.longest * count
        for attempt in range(1, settings.max_attempts + 1):
            await self.limits.admit(expected)
            if self.error:
                raise Permanent(self.error)
            self.stats.requests += 1
            try:
                answer = await self.client.ask(PATHS[self.sampling.api], body)
                self.limits.settle(expected, sum(answer.tokens or (expected,)))
                return answer, attempt
            except Refused as error:
                raise _RowFailed(Reason.BAD_REQUEST, str(error)) from None
            except Retry as error:
                if self.settings.progress_seconds > 0 and not self.stats.retries[error.reason]:
                    to_stderr(f"annotate: {error.reason}: {error}; retrying")
                self.stats.retries[error.reason] += 1
                if error.tokens:  # an answer of no use is paid for too
                    self._count(row, error.tokens)
                    self._check_spent()
                self.limits.settle(expected, sum(error.tokens or (expected,)))
                if attempt == settings.max_attempts:
                    raise _RowFailed(error.reason, str(error)) from None
                await self._sleep(self._wait(error, attempt))
        raise AssertionError("unreachable")

    def _check_spent(self) -> None:
        """Lets a row go, neither answered nor failed, if asking again may cost too much."""
        bound = self.settings.max_cost
        if bound is not None and (self.stats.cost or 0.0) + self._reserved > bound:
            self.stopped = "max_cost"
            raise _Unaffordable

    def _wait(self, error: Retry, attempt: int) -> float:
        """Seconds before the next attempt; a Retry-After holds back all requests."""
        settings = self.settings
        delay = backoff(attempt, settings.backoff_base, settings.backoff_longest, jitter)
        if error.wait is None:
            return delay
        if error.wait > settings.longest_wait:
            raise Permanent(f"{self.client.base_url} asks to wait {error.wait:,.0f} s ({error})")
        self.limits.pause(error.wait)
        return max(delay, error.wait + settings.backoff_base * jitter())

    def _store_answer(
        self, task: PendingRow, run: Sequence[int], answer: Answer, attempts: int
    ) -> None:
        tokens = answer.tokens
        if tokens is None:
            read = self._prompt_tokens(task.row)
            tokens = (read, sum(self.stats.tokens_of(len(t)) for t in answer.texts[: len(run)]))
            self.stats.estimated += 1
        self._count(task.row, tokens)
        metadata = {
            "seconds": round(answer.seconds, 4),
            "model": answer.model,
            "attempts": attempts,
        }
        for stored in answer_records(task, run, answer, tokens):
            self.store.append(stored | metadata)

    def _count(self, row: Example, tokens: tuple[int, int]) -> None:
        """Adds the tokens of an answer about a row."""
        self.stats.tokens_in += tokens[0]
        self.stats.tokens_out += tokens[1]
        self.stats.characters += self._prefix_characters + len(row.input)

    def _store_failure(self, task: PendingRow, sample: int, failure: _RowFailed) -> None:
        self.store.append(
            record(task, sample, False)
            | {"failure": str(failure.reason), "message": printable(str(failure), keep="")}
        )

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
            self._fail("interrupted")
            loop.remove_signal_handler(signal.SIGINT)  # a second one ends the process

        loop.add_signal_handler(signal.SIGINT, stop)
        return lambda: loop.remove_signal_handler(signal.SIGINT)


class _RowFailed(Exception):
    """A row that will not be answered in this run."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Unaffordable(Exception):
    """A row that the cost of its useless answers ended."""


def run_job(job: Job) -> JobStats:
    """Runs a job to its end; see `Job.run`."""
    return asyncio.run(job.run())
