"""The batch endpoint of a provider: files, batches and their results.

Source: OpenAI API reference, "Batch" and "Files": POST /files, POST /batches, GET /batches/ID,
GET /batches (pages by `after`), POST /batches/ID/cancel, GET /files/ID/content.
"""

from __future__ import annotations

import asyncio
import dataclasses
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from distill.common.phrases import number_of
from distill.common.progress import to_stderr
from distill.common.terminal import printable
from distill.common.text_files import parse_json
from distill.errors import UserError
from distill.teacher.batches.ledger import Entry
from distill.teacher.batches.settings import Batching
from distill.teacher.endpoint.client import Client
from distill.teacher.endpoint.limits import backoff, jitter
from distill.teacher.endpoint.outcomes import Doubtful, Permanent, Reason, Refused, Retry
from distill.teacher.settings import Settings

if TYPE_CHECKING:
    import openai

    Request = Callable[[openai.AsyncOpenAI], Awaitable[Any]]

Response = TypeVar("Response")
TAG = "distill_tag"  # the name in a batch's metadata
_ENDED = ("completed", "failed", "expired", "cancelled", "canceled")
_FILE_SECONDS = 1800.0  # that a file of 200 MB may take
_PAGE = 100  # batches of a page of the list
_SEARCHES = 3  # for a batch that was just submitted


class NotFound(UserError):
    """What the provider does not know, or does not offer."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a provider says of a batch.

    Attributes:
      id: its name.
      status: "in_progress", "completed", ...; see `has_ended`.
      files: ids of its results and of its failed requests, those that there are.
      counts: requests by "total", "completed" and "failed".
      errors: why it failed: a code and a message.
      metadata, file_id: its tag, and its file of requests.
    """

    id: str
    status: str
    files: tuple[str, ...]
    counts: Mapping[str, int]
    errors: tuple[tuple[str, str], ...]
    metadata: Mapping[str, object]
    file_id: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _ENDED

    @property
    def lacks_files(self) -> bool:
        """Whether results are said to be there and are not: they come a little later."""
        return self.status == "completed" and not self.files and bool(self.counts.get("completed"))

    def is_of(self, entry: Entry) -> bool:
        """Whether it is the batch of an entry."""
        return self.metadata.get(TAG) == entry.tag or self.file_id == entry.file_id


class Provider:
    """Sends requests about batches until they are answered, or refused."""

    def __init__(self, client: Client, settings: Settings, batching: Batching) -> None:
        self.base_url = client.base_url
        self._client, self._settings, self._batching = client, settings, batching

    async def upload(self, name: str, content: bytes) -> str:
        """Uploads a file of requests; gives its id.

        Raises:
          UserError: the provider refuses it, or has no batches.
        """

        def request(api: openai.AsyncOpenAI) -> Awaitable[Any]:
            return api.files.with_raw_response.create(file=(name, content), purpose="batch")

        try:
            fields = await self._fields("the upload of a batch file", request, _FILE_SECONDS)
        except NotFound as error:
            raise UserError(
                f"{error}; if it has no batches, leave out --batch, or write a file for "
                "vllm run-batch with --batch_write"
            ) from None
        return _text(fields, "id")

    async def create(self, entry: Entry, path: str) -> Batch:
        """Submits the batch of an entry, once: before another try it is looked for.

        Args:
          entry: with the id of its file.
          path: of the API that the requests are for, e.g. "/v1/chat/completions".

        Raises:
          UserError: the provider refuses it; nothing was submitted.
          Unreachable: it may have been submitted.
        """
        body = {
            "input_file_id": entry.file_id,
            "endpoint": path,
            "completion_window": self._batching.window,
            "metadata": {TAG: entry.tag},
        }
        attempt = 0
        while True:
            attempt += 1
            try:
                return _batch(await self._once(lambda api: _post(api, "/batches", body)))
            except Retry as failure:
                await self._wait("the submission of a batch", failure, attempt)
                if found := await self.find(entry):
                    return found

    async def find(self, entry: Entry) -> Batch | None:
        """The batch of an entry in the provider's list; None if it was not submitted.

        A list may show a batch only after a while, so it is read several times.

        Raises:
          UserError: the provider has no list.
        """
        for search in range(_SEARCHES):
            if search:
                await asyncio.sleep(self._batching.settle_seconds / (_SEARCHES - 1))
            found = await self._listed(entry)
            if found:
                ended = [each for each in found if each.status in ("failed", "expired")]
                return next((each for each in found if each not in ended), found[0])
        return None

    async def _listed(self, entry: Entry) -> list[Batch]:
        """Batches of an entry among all that the provider lists."""
        found, after = [], ""
        while True:
            query = f"?limit={_PAGE}" + (f"&after={_quoted(after)}" if after else "")
            page = await self._fields("the list of batches", _get(f"/batches{query}"))
            listed = page.get("data")
            batches = [_batch(each) for each in listed] if isinstance(listed, list) else []
            found += [each for each in batches if each.is_of(entry)]
            if not page.get("has_more") or not batches or batches[-1].id == after:
                return found
            after = batches[-1].id

    async def get(self, batch_id: str) -> Batch:
        """The state of a batch.

        Raises:
          NotFound: the provider does not know it.
        """
        path = f"/batches/{_quoted(batch_id)}"
        return _batch(await self._fields(f"the state of batch {batch_id}", _get(path)))

    async def cancel(self, batch_id: str) -> None:
        """Ends a batch; what is answered stays."""
        path = f"/batches/{_quoted(batch_id)}/cancel"
        await self._fields(f"the end of batch {batch_id}", lambda api: _post(api, path, {}))

    async def download(self, file_id: str) -> bytes:
        """The content of a file.

        Raises:
          NotFound: it is no longer there.
        """
        path = f"/files/{_quoted(file_id)}/content"
        return await self._retried(
            f"the file {file_id}", lambda: self._content(_get(path), _FILE_SECONDS)
        )

    async def _fields(self, what: str, request: Request, timeout: float = 0.0) -> dict[str, Any]:
        """The JSON object of a response."""
        return await self._retried(what, lambda: self._once(request, timeout))

    async def _retried(self, what: str, ask: Callable[[], Awaitable[Response]]) -> Response:
        """What a request gives, in one of several attempts.

        Args:
          what: is asked for, for messages.
          ask: one attempt; raises Retry if another may help.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask()
            except Retry as failure:
                await self._wait(what, failure, attempt)

    async def _once(self, request: Request, timeout: float = 0.0) -> dict[str, Any]:
        content = await self._content(request, timeout)
        try:
            fields = parse_json(content)
        except ValueError as error:
            raise Retry(Reason.BAD_JSON, f"the answer is not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise Retry(Reason.BAD_JSON, f"the answer is a JSON {type(fields).__name__}")
        return fields

    async def _content(self, request: Request, timeout: float) -> bytes:
        try:
            return await self._client.send(request, timeout)
        except Doubtful as refusal:
            if refusal.reason == Reason.NOT_FOUND:
                raise NotFound(f"{self.base_url}: {refusal}") from None
            raise UserError(refusal.otherwise) from None
        except (Refused, Permanent) as refusal:
            raise UserError(f"{self.base_url} refuses a request about batches: {refusal}") from None

    async def _wait(self, what: str, failure: Retry, attempt: int) -> None:
        """Waits before another attempt.

        Raises:
          Unreachable: there were enough of them.
        """
        settings = self._settings
        if attempt >= settings.max_attempts:
            raise Unreachable(
                f"{self.base_url}: {what} failed {number_of(attempt, 'time')} ({failure})"
            )
        if attempt == 1 and settings.progress_seconds > 0:
            to_stderr(f"annotate: {what}: {failure}; retrying")
        delay = backoff(attempt, settings.backoff_base, settings.backoff_longest, jitter)
        await asyncio.sleep(max(delay, min(failure.wait or 0.0, settings.longest_wait)))


class Unreachable(UserError):
    """A provider that does not answer; whether it did what was asked is not known."""


def _get(path: str) -> Request:
    import openai

    return lambda api: api.get(path, cast_to=openai.HttpxBinaryResponseContent)


def _post(api: openai.AsyncOpenAI, path: str, body: Mapping[str, object]) -> Awaitable[Any]:
    import openai

    return api.post(path, body=body, cast_to=openai.HttpxBinaryResponseContent)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _text(fields: Mapping[str, Any], name: str) -> str:
    """A text of a response.

    Raises:
      UserError: it has none.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        shown = printable(str(fields), keep="")[:300]
        raise UserError(f"got a response without {name!r} from the provider: {shown}")
    return value


def _batch(fields: Any) -> Batch:
    """What a response says of a batch."""
    fields = fields if isinstance(fields, dict) else {}
    errors = fields.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    problems = [each for each in listed if isinstance(each, dict)] if listed else []
    counts, metadata = fields.get("request_counts"), fields.get("metadata")
    files = (fields.get(name) for name in ("output_file_id", "error_file_id"))
    return Batch(
        id=printable(_text(fields, "id"), keep=""),
        status=str(fields.get("status") or "").lower(),
        files=tuple(name for name in files if isinstance(name, str) and name),
        counts={
            name: number
            for name, number in (counts if isinstance(counts, dict) else {}).items()
            if type(number) is int
        },
        errors=tuple(
            (str(each.get("code") or ""), printable(str(each.get("message") or ""), keep="")[:300])
            for each in problems
        ),
        metadata=metadata if isinstance(metadata, dict) else {},
        file_id=str(fields.get("input_file_id") or ""),
    )
