"""One request to an OpenAI-compatible endpoint: an answer, or a typed reason why not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from distill.common.terminal import printable
from distill.common.text_files import parse_json
from distill.common.urls import check_http_url
from distill.errors import UserError
from distill.teacher.answers import messages
from distill.teacher.endpoint import refusals, streams
from distill.teacher.endpoint.environment import check_environment, proxy_of
from distill.teacher.endpoint.limits import retry_after
from distill.teacher.endpoint.model_names import same_model
from distill.teacher.endpoint.outcomes import Answer, Permanent, Reason, Retry, is_broken_off
from distill.teacher.sampling import PATHS

if TYPE_CHECKING:
    import openai

_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_SECRET = 8  # shorter keys ("EMPTY", "none", "x") are placeholders, and words of answers
_CONNECT = 15.0  # seconds until a connection has to stand
_SHOWN = 300  # characters of a server's message


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
    base_url = base_url.rstrip("/")
    for path in sorted(PATHS.values(), key=len, reverse=True):
        if parts.path.rstrip("/").endswith(path):
            raise UserError(
                f"got --base_url {base_url!r}, expected the address before {path}: "
                f"--base_url={base_url.removesuffix(path)}"
            )
    return base_url


class _Redirected(Exception):
    """A redirection that turns a request into another one."""


async def _refuse_redirection(response: Any) -> None:
    """Lets only redirections pass that repeat the request: the others would ask for a page."""
    if response.status_code in (301, 302, 303):
        target = str(response.headers.get("location", "nowhere"))
        raise _Redirected(target.split("?")[0])


class Client:
    """Sends requests; retries and limits are its caller's.

    The key is held by the `openai` client alone, and is cut out of all that a server says
    before anybody sees it.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        timeout: float,
        concurrency: int,
        any_model: bool = False,
        stream: bool = False,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(
                "distill annotate needs the openai client: pip install 'distill-step-by-step"
                "[teacher]' (or pip install openai)"
            ) from error
        check_environment()
        self.base_url, self._timeout, self._any_model = check_url(base_url), timeout, any_model
        self._stream: dict[str, object] = {}
        if stream:
            self._stream = {"stream": True, "stream_options": {"include_usage": True}}
        self._openai = openai
        secret = key if len(key) >= _SECRET else ""
        self._secret = secret.encode()
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
            timeout=openai.Timeout(timeout, connect=min(timeout, _CONNECT)),
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, event_hooks={"response": [_refuse_redirection]}
            ),
        )

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def ask(self, path: str, body: dict[str, object]) -> Answer:
        """Sends one request.

        Raises:
          Retry, Refused, Doubtful, Permanent: there is no answer.
        """
        began = time.monotonic()
        api = self._openai
        async with self._typed_errors(self._timeout):
            try:
                response = await self._client.post(
                    path, body=body | self._stream, cast_to=api.HttpxBinaryResponseContent
                )
            except api.APIStatusError as error:
                if "stream_options" not in self._stream or "stream_options" not in str(error.body):
                    raise
                del self._stream["stream_options"]  # the tokens are then estimated
                return await self.ask(path, body)
            content = response.content
        fields = self._fields(content)
        answer = self._scrubbed(answer_of(fields, time.monotonic() - began))
        if not self._any_model and not same_model(str(body["model"]), answer.model):
            raise Retry(
                Reason.WRONG_MODEL,
                f"requested {body['model']!r}, answered by {self._said(answer.model)!r}; "
                "--any_model accepts it",
                tokens=answer.tokens,
            )
        return answer

    async def send(
        self, request: Callable[[openai.AsyncOpenAI], Awaitable[Any]], timeout: float = 0.0
    ) -> bytes:
        """Sends a request of another kind than `ask`, and gives its response, without the key.

        Args:
          request: makes it with a client; its result has the response's `content`.
          timeout: seconds, if the request may take longer than others.

        Raises:
          Retry, Refused, Doubtful, Permanent: it failed.
        """
        async with self._typed_errors(max(timeout, self._timeout)):
            content: bytes = (await request(self._client)).content
        return content.replace(self._secret, b"***") if self._secret else content

    @contextlib.asynccontextmanager
    async def _typed_errors(self, timeout: float) -> AsyncIterator[None]:
        """Bounds the time of a request, and raises what its failure stands for."""
        api = self._openai
        try:
            async with asyncio.timeout(timeout):
                yield
        except (TimeoutError, api.APITimeoutError) as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                raise self._unreachable(error) from None
            raise Retry(Reason.TIMEOUT, f"no answer within {timeout:g} s") from None
        except api.APIStatusError as error:
            raise self._status(error) from None
        except (api.APIConnectionError, OSError, _Redirected) as error:
            raise self._unreachable(error) from None

    def _fields(self, content: bytes) -> object:
        """The JSON of a response, put together if it was streamed.

        Raises:
          Retry, Refused: there is none, or it holds an error instead of an answer.
        """
        try:
            fields = (
                streams.assemble(content) if streams.is_stream(content) else parse_json(content)
            )
        except ValueError as error:
            text = content.decode("utf-8", "replace")
            if not refusals.is_html(text):
                raise Retry(Reason.BAD_JSON, f"the answer is not JSON ({error})") from None
            page = self._said(refusals.text_of(text))
            hint = refusals.version_hint(self.base_url) or "; correct --base_url"
            lasting = f"{self.base_url} answers with {page}{hint}"
            raise Retry(Reason.BAD_JSON, f"the answer is {page}", lasting=lasting) from None
        if (body := error_of(fields)) is not None:
            said = self._said(refusals.text_of(body))
            raise refusals.of_error_body(body, self.base_url, said)
        return fields

    def _scrubbed(self, answer: Answer) -> Answer:
        """The answer without the key, wherever the server repeats it."""
        return dataclasses.replace(
            answer,
            texts=tuple(map(self._scrub, answer.texts)),
            thoughts=tuple(map(self._scrub, answer.thoughts)),
            refusals=tuple(map(self._scrub, answer.refusals)),
            finish=tuple(map(self._scrub, answer.finish)),
            model=self._scrub(answer.model),
        )

    def _said(self, text: str) -> str:
        """A server's message, without the key and safe to show."""
        return printable(" ".join(self._scrub(text).split()), keep="")[:_SHOWN]

    def _unreachable(self, error: Exception) -> Exception:
        """The exception that a failure of the connection stands for."""
        cause = error.__cause__ or error
        if isinstance(cause, _Redirected):
            target = self._said(str(cause))
            base = re.sub(r"(/chat)?/completions$", "", target)
            return Permanent(f"{self.base_url} redirects to {target}; set --base_url={base}")
        text = self._said(repr(cause))
        lasting = ""
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError"):
            fix = "start the server, or correct --base_url"
            place = self.base_url
            if proxy := proxy_of(self.base_url):
                place += f" through the proxy {proxy}"
                fix += ", or correct or unset the proxy of the environment"
            lasting = f"nobody answers at {place} ({text}); {fix}"
        return Retry(Reason.CONNECTION, text, lasting=lasting)

    def _status(self, error: openai.APIStatusError) -> Exception:
        """The exception that a status other than 2xx stands for."""
        body = error.body if error.body not in (None, "") else str(error.message)
        codes = f"{error.code or ''} {refusals.codes_of(body)}"
        text, wait = self._said(refusals.text_of(body)), retry_after(error.response.headers)
        return refusals.of_status(error.status_code, text, codes, self.base_url, wait)


def error_of(fields: object) -> dict | str | None:
    """What a response says went wrong, if it has no choices; None if it says nothing of the kind.

    Besides `error` some servers write `detail` or `message`.
    """
    if not isinstance(fields, dict) or fields.get("choices"):
        return None
    for name in ("error", "detail", "message"):
        value = fields.get(name)
        if value and isinstance(value, str if name == "message" else dict | str):
            return value
    return None


def answer_of(fields: object, seconds: float) -> Answer:
    """The answer in the JSON object of a response.

    Raises:
      Retry: it is no JSON object (bad_json), or has no choices (empty_choices).
    """
    if not isinstance(fields, dict):
        raise Retry(Reason.BAD_JSON, f"the answer is a JSON {type(fields).__name__}")
    choices, tokens = fields.get("choices"), _tokens(fields.get("usage"))
    if not isinstance(choices, list) or not choices:
        raise Retry(Reason.EMPTY_CHOICES, "the answer has no choices", tokens=tokens)
    if not all(isinstance(choice, dict) for choice in choices):
        raise Retry(Reason.BAD_JSON, "a choice is not a JSON object", tokens=tokens)
    choices = sorted(choices, key=lambda choice: _count(choice.get("index")) or 0)
    finish = tuple(str(choice.get("finish_reason") or "") for choice in choices)
    if all(map(is_broken_off, finish)):
        message = f"the answer ended with finish_reason {finish[0]!r}"
        raise Retry(Reason.SERVER_ERROR, message, tokens=tokens)
    return Answer(
        texts=tuple(map(messages.text_of, choices)),
        thoughts=tuple(map(messages.thoughts_of, choices)),
        refusals=tuple(map(messages.refusal_of, choices)),
        reasoning_tokens=messages.reasoning_tokens(fields.get("usage")),
        finish=finish,
        tokens=tokens,
        model=str(fields.get("model") or ""),
        seconds=seconds,
    )


def _tokens(usage: object) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return (read, written) if read is not None and written is not None else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
