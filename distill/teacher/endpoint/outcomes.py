"""How a request ends: an answer, or a typed reason why there is none."""

from __future__ import annotations

import dataclasses
import enum


class Reason(enum.StrEnum):
    """Why a request has no answer."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    ERROR_REPLY = "error_reply"  # HTTP 200 with an error in its body
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    BAD_JSON = "bad_json"
    EMPTY_CHOICES = "empty_choices"
    WRONG_MODEL = "wrong_model"
    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    THOUGHT_TOO_LONG = "thought_too_long"  # the completion ended before the answer began
    THOUGHT_STOPPED = "thought_stopped"  # a stop ended the completion inside the thoughts
    EMPTY_ANSWER = "empty_answer"  # a completion without content
    FILTERED = "filtered"  # a content filter refused the row, or removed its answer
    FORBIDDEN = "forbidden"  # 403 for this row, while others are answered
    NOT_FOUND = "not_found"  # 404 or 405 for this row, while others are answered
    EXPIRED = "expired"  # a batch ended before it came to the request
    LOST = "lost"  # a batch ended without a result of the request


class Retry(Exception):
    """A failure that may pass.

    Attributes:
      reason: its type.
      wait: seconds that the endpoint asks for, or None.
      tokens: (prompt, completion) tokens that the endpoint counted all the same, or None.
      lasting: what to tell if nothing was answered before and the failure repeats: it is then
        about the address or the request, not about a row. "" for failures that may pass anyway.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        wait: float | None = None,
        tokens: tuple[int, int] | None = None,
        lasting: str = "",
    ) -> None:
        super().__init__(message)
        self.reason, self.wait, self.tokens, self.lasting = reason, wait, tokens, lasting


class Refused(Exception):
    """This request will never be answered; others may be.

    Attributes:
      reason: its type.
    """

    def __init__(self, message: str, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(message)
        self.reason = reason


class Doubtful(Refused):
    """A refusal of this request, if others are answered; else of all.

    Attributes:
      otherwise: what to tell if no request was answered: why none will be.
      patient: whether other rows should be tried before that is concluded.
    """

    def __init__(self, message: str, reason: Reason, otherwise: str, patient: bool = False) -> None:
        super().__init__(message, reason)
        self.otherwise, self.patient = otherwise, patient


class Permanent(Exception):
    """No request will be answered until a person puts something right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said.

    Attributes:
      texts: raw completions, at least one.
      finish: reasons why each ended, as the server calls them ("stop", "length", ...).
      tokens: (prompt, completion) tokens, or None where the server did not say.
      model: the model that the server names, or "".
      seconds: latency.
      thoughts: for each completion, the thoughts that the server returned beside it, or "".
      refusals: for each completion, what the model said instead of an answer, or "".
      reasoning_tokens: tokens of thoughts that the server counted.
    """

    texts: tuple[str, ...]
    finish: tuple[str, ...]
    tokens: tuple[int, int] | None
    model: str
    seconds: float
    thoughts: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    reasoning_tokens: int = 0


_FILTERS = ("content_filter", "safety", "prohibited_content", "blocklist", "spii", "refusal")


def is_filtered(text: str, finish: str) -> bool:
    """Whether a content filter left nothing of a completion."""
    return not text.strip() and finish.lower() in _FILTERS


def is_broken_off(finish: str) -> bool:
    """Whether a completion ended with an error of the server."""
    return finish.lower() == "error"
