"""Batch files: requests as JSONL for OpenAI's Batch API or `vllm run-batch`, and their results.

    {"custom_id": "<key>-<count>", "method": "POST", "url": "/v1/chat/completions", "body": {...}}

A custom id is the key of the first sample that a line asks for, and how many it asks for.
Results are matched by it, in any order; what failed or is missing is written again by the
next round.
Source: OpenAI API reference, "The request input object" and "The request output object" of
the Batch API; at most 50,000 requests and 200 MB a file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict

from etils import epath

from distill.common.atomic import write_text
from distill.common.own_files import check_content
from distill.common.terminal import printable
from distill.common.text_files import json_lines, parse_json
from distill.errors import UserError
from distill.teacher.endpoint import refusals
from distill.teacher.endpoint.client import answer_of, error_of
from distill.teacher.endpoint.model_names import same_model
from distill.teacher.endpoint.outcomes import Answer, Permanent, Reason, Refused, Retry
from distill.teacher.job_stats import CHARACTERS_PER_TOKEN
from distill.teacher.prompts import Prompt
from distill.teacher.samples import PendingRow, answer_records, first_run
from distill.teacher.sampling import PATHS, Sampling
from distill.teacher.storage.keys import key_of, position_key
from distill.teacher.storage.store import Store

_COUNT = re.compile(r"[0-9]{1,9}")
_REQUEST_KEYS = {"custom_id", "method", "url", "body"}
_ENDED = ("batch_expired", "batch_cancelled")  # codes of requests that a batch did not come to
MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000


class BatchFiles(TypedDict):
    """What `write_requests` gives."""

    requests: int
    files: list[str]


class BatchResults(TypedDict):
    """What `read_results` gives."""

    stored: int
    failed: list[dict[str, str]]
    unasked: int


def write_requests(
    path: epath.PathLike,
    missing: Iterable[PendingRow | None],
    prompt: Prompt,
    sampling: Sampling,
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BYTES,
) -> BatchFiles:
    """Writes a request for each row with samples that are not stored.

    Args:
      path: the file; further ones are `<stem>-1.jsonl`, `<stem>-2.jsonl`, ...
      missing: see `samples.pending_rows`.
      prompt, sampling: what is asked.
      max_requests, max_bytes: bounds of a file.

    Returns:
      `requests` and `files`.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    requests = 0
    lines: list[str] = []
    size = 0

    def flush() -> None:
        nonlocal lines, size
        target = _numbered(path, len(files))
        write_text(target, "".join(lines))
        files.append(str(target))
        lines, size = [], 0

    for task, samples in _requests(missing):
        _, line = request_line(task, samples, prompt, sampling)
        if lines and (len(lines) >= max_requests or size + len(line) > max_bytes):
            flush()
        lines.append(line)
        size += len(line)
        requests += 1
    if lines:
        flush()
    return {"requests": requests, "files": files}


def check_replaceable(path: epath.PathLike, command: str) -> None:
    """Refuses to replace files that hold no requests, `<stem>-1.jsonl` and so on included.

    Args:
      path: as of `write_requests`.
      command: the command, for the error message.

    Raises:
      UserError: names the file.
    """
    path = epath.Path(path)
    number = 0
    while (target := _numbered(path, number)).exists():
        check_content(target, "--batch_write", command, _holds_requests)
        number += 1


def _numbered(path: epath.Path, number: int) -> epath.Path:
    """The first, second, ... file of a batch."""
    return path.parent / f"{path.stem}-{number}{path.suffix}" if number else path


def _holds_requests(content: bytes) -> bool:
    return all(
        isinstance(fields := parse_json(line), dict) and fields.keys() == _REQUEST_KEYS
        for line in content.splitlines()
    )


def read_results(
    paths: Sequence[epath.PathLike],
    missing: Iterable[PendingRow | None],
    prompt: Prompt,
    sampling: Sampling,
    store: Store,
    any_model: bool = False,
) -> BatchResults:
    """Stores the answers of result files, in any order.

    Results of samples that are stored already are passed over, so files may be read again.

    Args:
      paths: result files (OpenAI's output and error files, vLLM's output).
      missing: what has no answer yet (failed samples are taken too), see `samples.pending_rows`.
      prompt, sampling: what was asked.
      store: where answers go.
      any_model: takes answers of another model.

    Returns:
      `stored` samples; `failed`: list of {"id", "reason", "message"} for another round;
      `unasked`: results that belong to no row without an answer.

    Raises:
      UserError: a missing file, or a line that is not JSON (`file:line`).
    """
    # A request may have asked for samples from one on that is stored meanwhile. Files of
    # versions up to 0.1 name the row.
    tasks_by_key = {
        key: (task, first)
        for task in missing
        if task
        for first in range(task.samples[-1] + 1)
        for key in (
            key_of(task.digest, first),
            position_key(task.row.id, task.digest, first),
        )
    }
    stored = unasked = 0
    failed: dict[str, dict[str, str]] = {}
    for path in paths:
        # Answers that are paid for are taken as they are.
        for line, fields in json_lines(epath.Path(path), unique=False):
            custom_id = fields.get("custom_id")
            if not isinstance(custom_id, str):
                raise UserError(f"{path}:{line}: no `custom_id`; is this a file of batch results?")
            key, _, count = custom_id.partition("-")
            task, first = tasks_by_key.get(key, (None, 0))
            samples = range(first, first + (int(count) if _COUNT.fullmatch(count) else 0))
            task = task and without_stored(task, store)
            if not task or not set(samples) & set(task.samples):
                unasked += 1
                continue
            try:
                answer = answer_of_result(fields, sampling.model, any_model)
            except (Retry, Refused, Permanent) as error:
                reason = getattr(error, "reason", Reason.SERVER_ERROR)
                failure = {"reason": str(reason), "message": printable(str(error), keep="")}
                failed[custom_id] = {"id": task.row.id} | failure
                continue
            failed.pop(custom_id, None)
            for record in batch_records(task, samples, answer, prompt, sampling):
                store.append(record)
                stored += bool(record["ok"])
                if not record["ok"]:
                    failure = {"reason": str(record["failure"]), "message": str(record["message"])}
                    failed[custom_id] = {"id": task.row.id} | failure
    return {"stored": stored, "failed": [*failed.values()], "unasked": unasked}


def without_stored(task: PendingRow, store: Store) -> PendingRow:
    """A row with those of its samples that still have no answer."""
    keys = {sample: key_of(task.digest, sample) for sample in task.samples}
    remaining = tuple(sample for sample, key in keys.items() if not store.state(key))
    return dataclasses.replace(task, samples=remaining)


def _requests(missing: Iterable[PendingRow | None]) -> Iterator[tuple[PendingRow, list[int]]]:
    """Each row's runs of consecutive samples, one request each."""
    for task in missing:
        if task:
            yield from ((task, run) for run in runs_of(task.samples))


def runs_of(samples: Sequence[int], longest: int | None = None) -> Iterator[list[int]]:
    """Runs of consecutive samples, each of which one request asks for.

    Args:
      samples: their numbers, sorted.
      longest: the most samples of a run, None for any number.
    """
    remaining = list(samples)
    while remaining:
        run = first_run(remaining)[:longest]
        yield run
        remaining = remaining[len(run) :]


def request_line(
    task: PendingRow,
    samples: Sequence[int],
    prompt: Prompt,
    sampling: Sampling,
    reasons: bool = False,
) -> tuple[str, str]:
    """The custom id and the line of a request.

    Args:
      task: the row.
      samples: consecutive numbers.
      prompt, sampling: what is asked.
      reasons: see `Sampling.sent_stops`.
    """
    first = samples[0]
    custom_id = f"{key_of(task.digest, first)}-{len(samples)}"
    fields = {
        "custom_id": custom_id,
        "method": "POST",
        "url": f"/v1{PATHS[sampling.api]}",
        "body": sampling.body(prompt, task.row, len(samples), first, reasons),
    }
    return custom_id, json.dumps(fields) + "\n"


def answer_of_result(
    fields: Mapping[str, object], model: str, any_model: bool, base_url: str = "the service"
) -> Answer:
    """The answer in one result.

    Args:
      fields: the result's JSON object.
      model: the one that was asked.
      any_model: takes answers of another model.
      base_url: the service, for messages.

    Raises:
      Retry, Refused, Doubtful, Permanent: there is none, for the reason that the same response to a
        single request has.
    """
    error, response = fields.get("error"), fields.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    detail = error or (body.get("error") if isinstance(body, dict) else None) or body
    codes, text = refusals.codes_of(detail), _said(detail or "no response")
    if isinstance(status, int) and status != 200:
        raise refusals.of_status(status, text, codes, base_url)
    if error or status is None:
        if any(code in _ENDED for code in codes.split()):
            raise Retry(Reason.EXPIRED, text)
        if refusals.names_filter(f"{codes} {text}"):
            raise Refused(text, Reason.FILTERED)
        raise Retry(Reason.SERVER_ERROR, text)
    if (inner := error_of(body)) is not None:
        raise refusals.of_error_body(inner, base_url, _said(inner))
    answer = answer_of(body, 0.0)
    if not any_model and not same_model(model, answer.model):
        raise Retry(
            Reason.WRONG_MODEL,
            f"requested {model!r}, answered by {answer.model!r}; --any_model accepts it",
            tokens=answer.tokens,
        )
    return answer


def _said(detail: object) -> str:
    """The message of an error, safe to show."""
    return printable(" ".join(refusals.text_of(detail).split()), keep="")[:300]


def batch_records(
    task: PendingRow, samples: Sequence[int], answer: Answer, prompt: Prompt, sampling: Sampling
) -> Iterator[dict[str, object]]:
    """The records of the samples that an answer of a batch settles; see `answer_records`."""
    tokens = answer.tokens or _estimate(task, answer, prompt, sampling)
    for _, record in answer_records(task, samples, answer, tokens):
        yield record | {"seconds": None, "model": answer.model, "batch": True}


def _estimate(
    task: PendingRow, answer: Answer, prompt: Prompt, sampling: Sampling
) -> tuple[int, int]:
    """Tokens read and written where the service did not count them."""
    read = len(prompt.prefix(sampling.api)) + len(task.row.input)
    written = sum(map(len, answer.texts))
    tokens_in, tokens_out = (max(1, round(n / CHARACTERS_PER_TOKEN)) for n in (read, written))
    return tokens_in, tokens_out
