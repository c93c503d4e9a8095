"""Notices of Compute Engine stop a run; a local server takes the place of the metadata server."""

from __future__ import annotations

import http.server
import signal
import threading
import time

import pytest

from distill.common import metadata
from distill.training import notices


class Server(http.server.ThreadingHTTPServer):
    """Answers with `values`; `asked` lists what was asked for."""

    def __init__(self):
        self.values, self.asked = {"preempted": "FALSE", "maintenance-event": "NONE"}, []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = self.path.removeprefix("/computeMetadata/v1/instance/")
        self.server.asked.append((key, self.headers["Metadata-Flavor"]))
        value = self.server.values.get(key)
        self.send_response(404 if value is None else 200)
        self.end_headers()
        self.wfile.write((value or "").encode())

    def log_message(self, *unused):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(notices, "PERIOD", 0.05)
        yield server
        server.shutdown()


@pytest.fixture
def signals():
    """SIGTERMs that this process got."""
    found = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def _wait_for_questions(server, rounds=2):
    """Returns once the watch has asked for all values again, unless it has ended."""
    wanted = len(server.asked) + rounds * len(notices._KEYS)
    while len(server.asked) < wanted and any(t.name == "notices" for t in threading.enumerate()):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("key", "value", "stops"),
    [
        ("preempted", "TRUE", True),
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", True),
        ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", False),
    ],
)
def test_a_notice_is_a_signal(key, value, stops, server, signals):
    lines = []
    with notices.watched_notices(lines.append):
        _wait_for_questions(server)
        assert not signals
        server.values[key] = value
        deadline = time.monotonic() + 20
        while stops and not signals and time.monotonic() < deadline:
            time.sleep(0.01)
        _wait_for_questions(server)
    assert signals == [signal.SIGTERM] * stops
    expected = f"Compute Engine: {key} is {value}; the run saves its state and ends"
    assert lines == [expected] * stops
    assert {asked for _, asked in server.asked} == {"Google"}


def test_a_notice_that_was_there_before_does_not_stop_the_run(server, signals):
    server.values["preempted"] = "TRUE"
    lines = []
    with notices.watched_notices(lines.append):
        _wait_for_questions(server, rounds=3)
    assert not signals
    assert lines == ["Compute Engine: preempted was TRUE before the run started; it goes on"]


def test_a_server_that_fails_is_no_notice(server, signals):
    server.values.clear()
    with notices.watched_notices(print):
        time.sleep(0.2)
        server.shutdown()
        server.server_close()
        time.sleep(0.2)
    assert not signals


def test_the_watch_ends_with_its_block(server, monkeypatch):
    """A signal that came later would meet other handlers, or end the process."""
    asked = threading.Event()

    def read(key, timeout):
        asked.set()
        time.sleep(0.2)

    monkeypatch.setattr(metadata, "read", read)
    with notices.watched_notices(print):
        assert asked.wait(20)
    assert not any(thread.name == "notices" for thread in threading.enumerate())


def test_elsewhere_nothing_is_asked(server, monkeypatch):
    monkeypatch.setattr(metadata, "is_compute_engine", lambda: False)
    with notices.watched_notices(print):
        time.sleep(0.2)
    assert not server.asked


def test_the_machine_says_whether_it_is_on_compute_engine(monkeypatch, tmp_path):
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.delenv(name, raising=False)
    product = tmp_path / "product_name"
    monkeypatch.setattr(metadata, "_PRODUCT", product)
    assert not metadata.is_compute_engine()
    product.write_text("Google Compute Engine\n")
    assert metadata.is_compute_engine()
