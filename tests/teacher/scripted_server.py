"""An endpoint whose every response a test writes: status, headers and bytes."""

from __future__ import annotations

import collections
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distill import cli
from distill.tickets import server

MODEL = server.MODEL
ASK = ["annotate", "--prompt=tickets", f"--model={MODEL}", "--json", "--backoff_seconds=.01"]
GOOD = "appliance with damage , bought recent\nAnswer: replace"


def reply(status: int, body: object, headers: dict[str, str] | None = None) -> bytes:
    """A response; a body that is no text is written as JSON, None closes without one."""
    content = (
        body
        if isinstance(body, bytes)
        else (body.encode() if isinstance(body, str) else json.dumps(body).encode())
    )
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {status}\r\n{head}\r\n".encode() + content


def answer(
    text: str | None = GOOD, finish: str = "stop", model: str = MODEL, n: int = 1, **message
):
    """A chat completion of n equal choices, as an object."""
    choice = {"message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
    return {
        "model": model,
        "choices": [{"index": index} | choice for index in range(n)],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10 * n},
    }


def good(text: str | None = GOOD, **more) -> bytes:
    """The response with such a completion."""
    return reply(200, answer(text, **more))


def error(status: int, message: str, **fields) -> bytes:
    """An error in the form of OpenAI's."""
    return reply(status, {"error": {"message": message} | fields})


def gemini_quota(*quotas: str) -> bytes:
    """A 429 of Gemini: the same message for quotas per minute and per day."""
    violations = [{"quotaId": quota, "quotaMetric": "generativelanguage"} for quota in quotas]
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}]
    message = "You exceeded your current quota, please check your plan and billing details."
    fields = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED"}
    return reply(429, [{"error": {**fields, "details": details if quotas else []}}])


def zipped(response: object) -> bytes:
    """A response with gzip."""
    return reply(200, gzip.compress(json.dumps(response).encode()), {"Content-Encoding": "gzip"})


def chunked(response: object, size: int = 7) -> bytes:
    """A response in chunks."""
    content = json.dumps(response).encode()
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    body = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body + b"0\r\n\r\n"


def streamed(text: str, finish: str | None = "stop", done: bool = True, n: int = 1) -> bytes:
    """A response as server-sent events, three characters each."""
    events: list[object] = [": keep alive"]
    for index in range(n):
        for start in range(0, len(text), 3):
            events.append(_chunk(index, {"content": text[start : start + 3]}))
        events.append(_chunk(index, {}, finish))
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    events += [{"model": MODEL, "choices": [], "usage": usage}, *(["data: [DONE]"] if done else [])]
    lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}" for each in events]
    return reply(200, "\n\n".join(lines) + "\n\n", {"Content-Type": "text/event-stream"})


def _chunk(index: int, delta: dict, finish: str | None = None) -> dict:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"model": MODEL, "choices": [choice], "usage": None}


class Scripted:
    """Asks `respond` for the bytes of each response.

    Attributes:
      requests: the JSON bodies, in their order.
      asked: requests by the last ticket of the prompt.
      most: requests at once, at most.
    """

    def __init__(self, respond: Callable[[dict, int], bytes | None]) -> None:
        """Takes the script: (request, how often its ticket was asked before) -> bytes."""
        self.respond = respond
        self.requests: list[dict] = []
        self.paths: list[str] = []
        self.asked: collections.Counter[str] = collections.Counter()

    async def handle(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """See `server.Endpoint.handle`."""
        request = json.loads(body)
        self.requests.append(request)
        self.paths.append(path)
        ticket = ticket_of(request)
        before = self.asked[ticket]
        self.asked[ticket] += 1
        return self.respond(request, before)


def ticket_of(request: dict) -> str:
    """The ticket that a request is about."""
    return server.ticket_of(server._prompt(request))


@contextmanager
def scripted(respond: Callable[[dict, int], bytes | None]) -> Iterator[tuple[Scripted, str]]:
    """Serves a script; gives the endpoint and its address."""
    endpoint = Scripted(respond)
    with server.background(endpoint) as url:
        yield endpoint, url


def ask_command(capsys, url, rows, folder, *more):
    """`distill annotate` of tickets: exit code, the JSON that it prints, and what it tells."""
    argv = [f"--input={rows}", f"--base_url={url}", f"--output={folder / 'o.jsonl'}"]
    code = cli.main([*ASK, *argv, *more])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {}, said.err
