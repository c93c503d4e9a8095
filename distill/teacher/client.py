"""One request to an OpenAI-compatible endpoint: an answer, or a typed reason why not."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import os
import re
import time
import urllib.parse
from typing import TYPE_CHECKING

from distill.common.terminal import printable
from distill.common.text_files import parse_json
from distill.common.urls import check_http_url
from distill.errors import UserError
from distill.teacher.limits import retry_after

if TYPE_CHECKING:
    import openai

_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_SECRET = 8  # shorter keys ("EMPTY", "none", "x") are placeholders, and words of answers
_SHOWN = 300  # characters of a server's message


class Reason(enum.StrEnum):
    """Why a request has no answer."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    BAD_JSON = "bad_json"
    EMPTY_CHOICES = "empty_choices"
    WRONG_MODEL = "wrong_model"
    BAD_REQUEST = "bad_request"


class Retry(Exception):
    """A failure that may pass.

    Attributes:
      reason: its type.
      wait: seconds that the endpoint asks for, or None.
      tokens: (prompt, completion) tokens that the endpoint counted all the same, or None.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        wait: float | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason, self.wait, self.tokens = reason, wait, tokens


class Refused(Exception):
    """This request will never be answered; others may be."""


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
    """

    texts: tuple[str, ...]
    finish: tuple[str, ...]
    tokens: tuple[int, int] | None
    model: str
    seconds: float


def read_key(name: str, base_url: str) -> str:
    """The API key from the environment; endpoints on this machine need none.

    Raises:
      UserError: the variable is not set, or holds what no HTTP header may. The message
        repeats neither its value nor a name that may be a key given by mistake.
    """
    variable = name if re.fullmatch(r"[A-Z][A-Z0-9_]{0,39}", name) else "that --key_env names"
    key = os.environ.get(name, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(
            f"the key in the environment variable {variable} contains a space or a non-ASCII "
            "character: copy it again"
        )
    if key:
        return key
    if urllib.parse.urlsplit(base_url).hostname in _LOCAL:
        return "none"
    raise UserError(
        f"the environment variable {variable} is not set: set it to the API key of {base_url}, or "
        "name another variable with --key_env (never pass a key as an argument)"
    )


def check_url(base_url: str) -> str:
    """The URL, if it is one that can be asked.

    Raises:
      UserError: another scheme than http(s), or credentials in it.
    """
    check_http_url(base_url, "--base_url", "http://localhost:8000/v1")
    parts = urllib.parse.urlsplit(base_url)
    if parts.username or parts.password or parts.query:
        raise UserError(
            "--base_url must not contain a user, password or query: use --key_env for the key"
        )
    return base_url.rstrip("/")


class Client:
    """Sends requests; retries and limits are its caller's.

    The key is held by the `openai` client alone, and is cut out of all that a server says
    before anybody sees it.
    """

    def __init__(
        self, base_url: str, key: str, timeout: float, concurrency: int, any_model: bool = False
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(
                "distill annotate needs the openai client: pip install 'distill-step-by-step"
                "[teacher]' (or pip install openai)"
            ) from error
        self.base_url, self._timeout, self._any_model = check_url(base_url), timeout, any_model
        self._openai = openai
        secret = key if len(key) >= _SECRET else ""
        self._scrub = lambda text: text.replace(secret, "***") if secret else text
        # The client's own bounds (1,000 connections, 100 kept open) would be a second limit.
        # Its HTTP library is httpx or httpx2, by version: the type is taken from itself.
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
            max_connections=concurrency, max_keepalive_connections=concurrency
        )
        self._client = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=key,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits),
        )

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def ask(self, path: str, body: dict[str, object]) -> Answer:
        """Sends one request.

        Raises:
          Retry, Refused, Permanent: there is no answer.
        """
        began = time.monotonic()
        api = self._openai
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(
                    path, body=body, cast_to=api.HttpxBinaryResponseContent
                )
                content = response.content
        except (TimeoutError, api.APITimeoutError):
            raise Retry(Reason.TIMEOUT, f"no answer within {self._timeout:g} s") from None
        except api.APIStatusError as error:
            raise self._status(error) from None
        except (api.APIConnectionError, OSError) as error:
            raise Retry(Reason.CONNECTION, self._said(repr(error.__cause__ or error))) from None
        answer = self._scrubbed(read_answer(content, time.monotonic() - began))
        if not self._any_model and not same_model(str(body["model"]), answer.model):
            raise Retry(
                Reason.WRONG_MODEL,
                f"requested {body['model']!r}, answered by {self._said(answer.model)!r}; "
                "--any_model accepts it",
                tokens=answer.tokens,
            )
        return answer

    def _scrubbed(self, answer: Answer) -> Answer:
        """The answer without the key, wherever the server repeats it."""
        return dataclasses.replace(
            answer,
            texts=tuple(map(self._scrub, answer.texts)),
            finish=tuple(map(self._scrub, answer.finish)),
            model=self._scrub(answer.model),
        )

    def _said(self, text: str) -> str:
        """A server's message, without the key and safe to show."""
        return printable(" ".join(self._scrub(text).split()), keep="")[:_SHOWN]

    def _status(self, error: openai.APIStatusError) -> Exception:
        """The exception that a status other than 2xx stands for."""
        status = error.status_code
        message = f"HTTP {status}: {self._said(str(error.message))}"
        wait = retry_after(error.response.headers)
        if status in (401, 403):
            return Permanent(f"{self.base_url} rejects the key ({message}); see --key_env")
        if status in (404, 405):
            return Permanent(f"{self.base_url} has no such model or path ({message})")
        if status == 402 or (status == 429 and error.code == "insufficient_quota"):
            return Permanent(f"{self.base_url}: the quota is used up ({message})")
        if status == 429:
            return Retry(Reason.RATE_LIMITED, message, wait)
        if status in (408, 409, 425) or status >= 500:
            return Retry(Reason.SERVER_ERROR, message, wait)
        return Refused(message)


def read_answer(content: bytes, seconds: float) -> Answer:
    """The answer in a response's body, of either API.

    Raises:
      Retry: it is no JSON object (bad_json), or has no choices (empty_choices).
    """
    try:
        fields = parse_json(content)
    except ValueError as error:
        raise Retry(Reason.BAD_JSON, f"the answer is not JSON ({error})") from None
    return answer_of(fields, seconds)


def answer_of(fields: object, seconds: float) -> Answer:
    """The answer in the JSON object of a response.

    Raises:
      Retry: see `read_answer`.
    """
    if not isinstance(fields, dict):
        raise Retry(Reason.BAD_JSON, f"the answer is a JSON {type(fields).__name__}")
    choices, tokens = fields.get("choices"), _tokens(fields.get("usage"))
    if not isinstance(choices, list) or not choices:
        raise Retry(Reason.EMPTY_CHOICES, "the answer has no choices", tokens=tokens)
    if not all(isinstance(choice, dict) for choice in choices):
        raise Retry(Reason.BAD_JSON, "a choice is not a JSON object", tokens=tokens)
    choices = sorted(choices, key=lambda choice: _count(choice.get("index")) or 0)
    return Answer(
        texts=tuple(_text(choice) for choice in choices),
        finish=tuple(str(choice.get("finish_reason") or "") for choice in choices),
        tokens=tokens,
        model=str(fields.get("model") or ""),
        seconds=seconds,
    )


def _text(choice: dict) -> str:
    """The text of a choice; one without content (a refusal, thoughts alone) is empty."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _tokens(usage: object) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return (read, written) if read is not None and written is not None else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def same_model(requested: str, served: str) -> bool:
    """Whether a server answers for the model that was asked for.

    Servers name a dated version (`m-2024-08-06` for `m`; `m-mini` is another model), the file
    or the last part of a path; one that names nothing is believed.
    """
    requested, served = (name.lower().rstrip("/").split("/")[-1] for name in (requested, served))
    return served in ("", requested) or re.match(rf"{re.escape(requested)}-\d", served) is not None
