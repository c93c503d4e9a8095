"""The requests of a job: their limits, their attempts, and what the first failures mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from distill.common.progress import to_stderr
from distill.data.examples import Example
from distill.teacher.answers.problems import is_stopped, shows_thoughts
from distill.teacher.budget import Budget
from distill.teacher.endpoint.client import Client
from distill.teacher.endpoint.limits import Limits, backoff, jitter
from distill.teacher.endpoint.outcomes import Answer, Doubtful, Permanent, Reason, Refused, Retry
from distill.teacher.job_stats import JobStats
from distill.teacher.prompts import Prompt
from distill.teacher.sampling import PATHS, Sampling
from distill.teacher.settings import Settings

_STRIKES = 4  # failures of one kind after which a server that never answered is given up
_OTHER_MODELS = 20  # answers in turn of another model, after some of the right one


class RowFailed(Exception):
    """A row that will not be answered in this run."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unaffordable(Exception):
    """A row that the cost of its useless answers ended."""


class Requests:
    """Asks for the samples of rows until they are answered, or never will be.

    Attributes:
      answered: requests that were answered in this run.
      one_at_a_time: whether the server refuses to give several samples at once.
      reasons: whether the model is known to write thoughts, so that no stops are sent.
    """

    def __init__(
        self,
        client: Client,
        prompt: Prompt,
        sampling: Sampling,
        settings: Settings,
        stats: JobStats,
        budget: Budget,
        sleep: Callable[[float], Awaitable[None]],
        check_running: Callable[[], None],
    ) -> None:
        """Takes what requests are made of.

        Args:
          client, prompt, sampling, settings: of the job.
          stats, budget: which the requests are added to.
          sleep: waits; raises Permanent if the job ends meanwhile.
          check_running: raises Permanent if the job has ended.
        """
        self.answered, self.one_at_a_time, self.reasons = 0, False, False
        self._client, self._prompt, self._sampling = client, prompt, sampling
        self._settings, self._stats, self._budget = settings, stats, budget
        self._sleep, self._check_running = sleep, check_running
        self._limits = Limits(settings.requests_per_minute, settings.tokens_per_minute, sleep=sleep)
        self._several_answered = False
        self._strikes = self._other_models = 0

    async def ask(self, row: Example, count: int, first: int) -> tuple[Answer, int]:
        """An answer with at least one of `count` samples from `first` on, and its attempts.

        A server that refuses to give several is asked for one at a time from then on. If an answer
        shows that the model writes thoughts, no stops are sent from then on, and a completion that
        a stop ended inside its thoughts is asked for again.

        Raises:
          RowFailed: the row will not be answered.
          Doubtful: the same, or no row will be; nothing has been answered yet.
          Permanent: no row will be.
          Unaffordable: another attempt may cost too much.
        """
        stops = self._sampling.sent_stops(self.reasons)
        answer, attempts = await self._ask(row, count, first)
        if self._sampling.reasoning == "auto" and not self.reasons and shows_thoughts(answer):
            self.reasons = True
            if stops:
                self._say(
                    "the model writes thoughts, in which stops would end it: stops are not sent "
                    "from now on, and are applied to its answers here"
                )
        if stops and self.reasons and is_stopped(answer):
            self._budget.count(row, answer.tokens or (self._budget.prompt_tokens(row), 0))
            if self._budget.is_exceeded():
                raise Unaffordable
            answer, more = await self._ask(row, count, first)
            attempts += more
        return answer, attempts

    async def _ask(self, row: Example, count: int, first: int) -> tuple[Answer, int]:
        """One answer to one question; see `ask`."""
        try:
            answer, attempts = await self._attempts(row, count, first)
        except Refused as refusal:
            may_be_n = refusal.reason == Reason.BAD_REQUEST and not self._several_answered
            if count == 1 or not may_be_n:
                raise self._final(refusal) from None
            try:
                answer, attempts = await self._attempts(row, 1, first)
            except Refused:
                raise self._final(refusal) from None
            if not self.one_at_a_time:
                self.one_at_a_time = True
                self._say(
                    f"{refusal}; the server gives one sample per request, so each is asked "
                    "for by itself"
                )
        else:
            self._several_answered |= count > 1
        self.answered += 1
        return answer, attempts

    def _final(self, refusal: Refused) -> Exception:
        """What a refusal means, by whether others were answered."""
        if isinstance(refusal, Doubtful) and not self.answered:
            return refusal if refusal.patient else Permanent(refusal.otherwise)
        return RowFailed(refusal.reason, str(refusal))

    async def _attempts(self, row: Example, count: int, first: int) -> tuple[Answer, int]:
        """Sends one request until it is answered; see `ask`.

        Raises:
          Refused: the request will not be answered, or see `ask`.
        """
        most = self._settings.max_attempts
        body = self._sampling.body(self._prompt, row, count, first, self.reasons)
        expected = self._budget.prompt_tokens(row) + self._sampling.longest * count
        for attempt in range(1, most + 1):
            await self._limits.admit(expected)
            self._check_running()
            self._stats.requests += 1
            try:
                answer = await self._client.ask(PATHS[self._sampling.api], body)
            except Retry as error:
                failure = error
            except Doubtful as error:
                if error.reason != Reason.NOT_FOUND or not self.answered:
                    raise
                failure = Retry(error.reason, str(error))
            else:
                self._limits.settle(expected, sum(answer.tokens or (expected,)))
                self._other_models = 0
                return answer, attempt
            if failure.tokens:  # an answer of no use is paid for too
                self._budget.count(row, failure.tokens)
            self._limits.settle(expected, sum(failure.tokens or (expected,)))
            self._check_lasting(failure)
            if not self._stats.retries[failure.reason]:
                self._say(f"{failure.reason}: {failure}; retrying")
            self._stats.retries[failure.reason] += 1
            if failure.tokens and self._budget.is_exceeded():
                raise Unaffordable
            if attempt == most:
                raise RowFailed(failure.reason, str(failure))
            await self._sleep(self._wait(failure, attempt))
        raise AssertionError("unreachable")

    def _check_lasting(self, failure: Retry) -> None:
        """Gives up a server that fails in a way that does not pass.

        Raises:
          Permanent: it does.
        """
        if failure.reason == Reason.WRONG_MODEL:
            self._other_models += 1
            if not self.answered or self._other_models >= _OTHER_MODELS:
                raise Permanent(
                    f"{self._client.base_url}: {failure}, or name that model with --model"
                )
        if failure.lasting and not self.answered:
            self._strikes += 1
            if self._strikes >= min(_STRIKES, self._settings.max_attempts):
                raise Permanent(failure.lasting)

    def _wait(self, failure: Retry, attempt: int) -> float:
        """Seconds before the next attempt; a Retry-After holds back all requests."""
        settings = self._settings
        delay = backoff(attempt, settings.backoff_base, settings.backoff_longest, jitter)
        if failure.wait is None:
            return delay
        if failure.wait > settings.longest_wait:
            raise Permanent(
                f"{self._client.base_url} asks to wait {failure.wait:,.0f} s ({failure})"
            )
        self._limits.pause(failure.wait)
        return max(delay, failure.wait + settings.backoff_base * jitter())

    def _say(self, text: str) -> None:
        if self._settings.progress_seconds > 0:
            to_stderr(f"annotate: {text}")
