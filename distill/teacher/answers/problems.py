"""Why a paid response holds no answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from distill.data.examples import Failure
from distill.teacher.answers.marks import end_at_turn
from distill.teacher.answers.thoughts import split_thoughts
from distill.teacher.endpoint.outcomes import Answer, Reason, is_filtered

_FAILURES = {
    str(Reason.THOUGHT_TOO_LONG): Failure.THOUGHT_TOO_LONG,
    str(Reason.THOUGHT_STOPPED): Failure.THOUGHT_STOPPED,
    str(Reason.FILTERED): Failure.FILTERED,
}
# Failures of answers that say how the others of a job will be.
PAID_FAILURES = (Reason.THOUGHT_TOO_LONG, Reason.THOUGHT_STOPPED, Reason.EMPTY_ANSWER)
# What to do about the commonest failure of a job's answers.
ADVICE: Mapping[str, str] = {
    Failure.THOUGHT_TOO_LONG: (
        "The model's thoughts count as completion tokens: raise --max_tokens to several thousand, "
        "or turn the thoughts off with --extra, e.g. "
        '\'{"chat_template_kwargs": {"enable_thinking": false}}\' for Qwen3 with vLLM.'
    ),
    Failure.THOUGHT_STOPPED: (
        "A stop ended the completions inside their thoughts: add --reasoning=yes, which sends no "
        "stops, and --retry_failed."
    ),
    Failure.NO_COMPLETION: (
        "The responses have no content. If the server returns the text as reasoning, turn off its "
        "reasoning parser, or the model's thoughts."
    ),
}


def problem_of(
    text: str, thoughts: str = "", finish: str = "", refusal: str = ""
) -> tuple[Reason, str] | None:
    """Why a completion is no answer, and a message; None if it is one.

    Args:
      text: the content.
      thoughts: what the server returned as thoughts.
      finish: why the completion ended, as the server calls it.
      refusal: what the model said instead of an answer.
    """
    said = split_thoughts(text, thoughts)
    if end_at_turn(said.answer).strip():
        return None
    if is_filtered("", finish):
        return Reason.FILTERED, f"the answer ended with finish_reason {finish!r}"
    if refusal.strip():
        return Reason.FILTERED, f"the model refuses to answer: {' '.join(refusal.split())[:300]}"
    if finish == "length" or (said.unfinished and finish != "stop"):
        return (
            Reason.THOUGHT_TOO_LONG,
            "the completion ended at --max_tokens before the answer began; thoughts count too",
        )
    if said.unfinished:
        return Reason.THOUGHT_STOPPED, "a stop ended the completion inside the model's thoughts"
    where = "; it was returned as reasoning" if said.thoughts else ""
    return Reason.EMPTY_ANSWER, f"the content is empty (finish_reason {finish!r}){where}"


def problem_of_record(record: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """`problem_of` for a stored record."""
    texts = (str(record.get(name) or "") for name in ("completion", "thoughts", "finish"))
    return problem_of(*texts)


def shows_thoughts(answer: Answer) -> bool:
    """Whether an answer shows that the model writes thoughts."""
    return answer.reasoning_tokens > 0 or any(
        split_thoughts(text, thoughts).reasons for text, thoughts in _pairs(answer)
    )


def is_stopped(answer: Answer) -> bool:
    """Whether a stop ended a completion of an answer inside its thoughts."""
    pairs = zip(_pairs(answer), answer.finish, strict=False)
    found = (problem_of(*pair, finish=finish) for pair, finish in pairs)
    return any(problem and problem[0] == Reason.THOUGHT_STOPPED for problem in found)


def _pairs(answer: Answer) -> Iterator[tuple[str, str]]:
    """Text and thoughts of each completion of an answer."""
    beside = itertools.chain(answer.thoughts, itertools.repeat(""))
    return zip(answer.texts, beside, strict=False)


def failure_of(reason: str) -> Failure:
    """What a row says about a sample that has failed for a reason."""
    return _FAILURES.get(reason, Failure.NO_COMPLETION)
