"""The simulated teacher of tickets behind HTTP, speaking the OpenAI protocol.

  python -m distill.tickets.server --port 8400 --policy hard --accuracy .87

A loopback endpoint to try `distill annotate` on, for tests and benchmarks: `/v1/chat/completions`,
`/v1/completions` and `/v1/models`, with a plan of faults. It is no server for the network.

Source of the protocol: the OpenAI API reference (platform.openai.com/docs/api-reference).
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import dataclasses
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from distill.data.examples import Example
from distill.errors import UserError
from distill.tickets import generator
from distill.tickets import teacher as simulated
from distill.tickets.faults import FaultPlan, read_plan

# Part of the keys of stored answers, so it keeps the dataset's earlier name.
MODEL = "simulated-returns"
Respond = Callable[[str, int], str]  # (prompt, draw) -> completion


def tickets_teacher(policy: str = "natural", accuracy: float = 1.0, seed: int = 0) -> Respond:
    """Answers the last ticket of a prompt as `simulated.annotate` would.

    Raises:
      UserError: an unknown policy, or an accuracy outside [0, 1].
    """
    simulated.annotate([], policy, accuracy, seed)

    def respond(prompt: str, draw: int) -> str:
        ticket = ticket_of(prompt)
        row = Example(id=f"{ticket} {draw}", input=ticket)
        try:
            (annotated,) = simulated.annotate([row], policy, accuracy, seed)
        except UserError:
            return "This is no ticket of the desk."
        return f"{annotated.rationale}\nAnswer: {annotated.teacher_label}"

    return respond


def ticket_of(prompt: str) -> str:
    """The last ticket of a prompt for tickets."""
    return prompt.rsplit("Ticket:", 1)[-1].strip().split("\n")[0].strip()


@dataclasses.dataclass
class Endpoint:
    """What the server says, does wrong and has seen.

    Attributes:
      respond: writes a completion for a prompt and the number of a draw.
      faults: what goes wrong.
      latency: seconds before an answer.
      key: the API key that is asked for; empty takes any.
      log: called with (last line of the prompt, seed, fault) for every request.
      counts: requests by outcome: a fault, or "answered".
    """

    respond: Respond
    faults: FaultPlan = dataclasses.field(default_factory=FaultPlan)
    latency: float = 0.0
    key: str = ""
    log: Callable[[str, int, str], None] | None = None
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    max_at_once: int = 0

    def __post_init__(self) -> None:
        self._draws: collections.Counter[str] = collections.Counter()
        self._at_once = 0

    async def handle(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """The bytes to send, or None to drop the connection."""
        self._at_once += 1
        self.max_at_once = max(self.max_at_once, self._at_once)
        try:
            return await self._handle(path, headers, body)
        finally:
            self._at_once -= 1

    async def _handle(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        if path == "/v1/models":
            return http(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return http(404, _error(f"no path {path}"))
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            self.counts["401"] += 1
            credentials = headers.get("authorization", "")
            return http(
                401, _error(f"Incorrect API key provided: {credentials}", "invalid_api_key")
            )
        try:
            request = json.loads(body)
            prompt = _prompt(request)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return http(400, _error(f"bad request: {error!r}"))
        if request.get("max_tokens", 1) < 1:
            self.counts["max_tokens=0"] += 1
            return http(400, _error("max_tokens must be at least 1"))
        fault = self.faults.draw(prompt)
        self.counts[fault or "answered"] += 1
        if self.log:
            self.log(prompt, int(request.get("seed") or 0), fault or "answered")
        if self.latency:
            await asyncio.sleep(self.latency)
        return await self._answer(request, prompt, fault)

    async def _answer(self, request: dict, prompt: str, fault: str | None) -> bytes | None:
        if fault in ("429", "429_retry_after"):
            wait = {"Retry-After": f"{self.faults.retry_after:g}"} if fault != "429" else {}
            return http(429, _error("slow down", "rate_limit_exceeded"), wait)
        if fault in ("401", "404", "500", "503"):
            return http(int(fault), _error(f"injected {fault}"))
        if fault == "drop":
            return None
        if fault == "stall":
            await asyncio.sleep(self.faults.stall_seconds)
            return None
        if fault == "n_refused" and int(request.get("n") or 1) > 1:
            return http(400, _error("n must be 1 for this model"))
        count = 1 if fault == "n_ignored" else int(request.get("n") or 1)
        texts = [self.respond(prompt, self._draw(request, prompt, i)) for i in range(count)]
        content = _content(request, prompt, texts)
        if fault == "empty_choices":
            content["choices"] = []
        if fault == "wrong_model":
            content["model"] = "another-model"
        if fault == "no_usage":
            del content["usage"]
        answer = _streamed(content) if request.get("stream") else http(200, content)
        if fault == "truncated_json":
            _, _, payload = answer.partition(b"\r\n\r\n")
            return _head(200, len(payload) // 2) + payload[: len(payload) // 2]
        return answer

    def _draw(self, request: dict, prompt: str, index: int) -> int:
        """Number of a draw: 0 at temperature 0, from the seed, or from what was asked before."""
        if not request.get("temperature", 1):
            return 0
        if request.get("seed") is not None:
            return int(request["seed"]) + index
        self._draws[prompt] += 1
        return self._draws[prompt]


def http(status: int, content: dict, headers: dict[str, str] | None = None) -> bytes:
    """A JSON response with its head."""
    body = json.dumps(content).encode()
    return _head(status, len(body), headers) + body


def _head(status: int, length: int, headers: dict[str, str] | None = None) -> bytes:
    fields = {"Content-Type": "application/json"} | (headers or {}) | {"Content-Length": length}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {status}\r\n{lines}\r\n".encode()


def _streamed(content: dict) -> bytes:
    """An answer as server-sent events: a word of a choice each, then the counts of tokens."""
    shared = {name: content[name] for name in ("id", "created", "model")}
    events: list[dict] = []
    for choice in content["choices"]:
        text = choice.get("text", "") or choice.get("message", {}).get("content", "")
        for word in re.findall(r"\S+\s*", text):
            part = {"delta": {"content": word}} if "message" in choice else {"text": word}
            events.append({"choices": [{"index": choice["index"], "finish_reason": None} | part]})
        end = {"index": choice["index"], "finish_reason": choice["finish_reason"], "delta": {}}
        events.append({"choices": [end]})
    events.append({"choices": [], "usage": content.get("usage")})
    lines = [json.dumps(shared | event) for event in events] + ["[DONE]"]
    body = "".join(f"data: {line}\n\n" for line in lines).encode()
    return _head(200, len(body), {"Content-Type": "text/event-stream"}) + body


def _error(message: str, code: str = "injected") -> dict:
    return {"error": {"message": message, "type": code, "code": code}}


def _prompt(request: dict) -> str:
    """The text that the answer is about: the prompt, or the last message."""
    if "messages" in request:
        return request["messages"][-1]["content"]
    return request["prompt"]


def _content(request: dict, prompt: str, texts: Sequence[str]) -> dict:
    """The JSON object of an answer; a token is four characters here."""
    chat = "messages" in request
    asked = "".join(m["content"] for m in request["messages"]) if chat else prompt
    usage = {
        "prompt_tokens": max(1, len(asked) // 4),
        "completion_tokens": sum(max(1, len(text) // 4) for text in texts),
    }
    usage["total_tokens"] = sum(usage.values())
    choices = [
        {"index": i, "finish_reason": "stop"}
        | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
        for i, text in enumerate(texts)
    ]
    kind = "chat.completion" if chat else "text_completion"
    return {
        "id": "simulated",
        "object": kind,
        "created": 0,
        "model": request.get("model", MODEL),
        "choices": choices,
        "usage": usage,
    }


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.buffer = endpoint, b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a server's can be written to

    def connection_lost(self, error: Exception | None) -> None:
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        self.task = asyncio.ensure_future(self._reply(first.split()[1], headers, body))

    async def _reply(self, path: str, headers: dict[str, str], body: bytes) -> None:
        answer = await self.endpoint.handle(path, headers, body)
        if answer is not None:
            self.transport.write(answer)
        else:
            self.transport.close()


async def serve(endpoint: Endpoint, port: int = 0) -> asyncio.Server:
    """Listens on 127.0.0.1; port 0 picks a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: _Connection(endpoint), "127.0.0.1", port, backlog=1024, reuse_address=True
    )


@contextmanager
def background(endpoint: Endpoint) -> Iterator[str]:
    """Serves from a thread of this process; gives the base URL (`http://127.0.0.1:PORT/v1`)."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(serve(endpoint))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _run(endpoint: Endpoint, port: int) -> None:
    server = await serve(endpoint, port)
    chosen = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{chosen}/v1", flush=True)
    await server.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is stopped; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--policy", default="natural", choices=sorted(generator.POLICIES))
    parser.add_argument("--accuracy", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--faults", help="JSON file of a fault plan")
    parser.add_argument("--log", help="file that gets a JSON line for each request")
    options = parser.parse_args(argv)
    plan = read_plan(options.faults) if options.faults else FaultPlan()
    teacher = tickets_teacher(options.policy, options.accuracy, options.seed)
    endpoint = Endpoint(teacher, plan, options.latency)
    if options.log:
        file = open(options.log, "a", buffering=1)  # noqa: SIM115 - for the process's life

        def log(prompt: str, seed: int, outcome: str) -> None:
            file.write(json.dumps([prompt[-200:], seed, outcome]) + "\n")

        endpoint.log = log
    try:
        asyncio.run(_run(endpoint, options.port))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
