"""Processes of a run watch each other, and stop at one point."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from distill.common import process_exit
from distill.training import peers
from distill.training.links import Link


class Ended(Exception):
    """Takes the place of the end of a process."""


@pytest.fixture
def ends(monkeypatch):
    """Messages with which processes were ended, in their order."""
    messages = []

    def end(text):
        messages.append(text)
        raise Ended  # the thread that watches ends, as the process would

    monkeypatch.setattr(peers, "end_process", end)
    monkeypatch.setattr(peers, "_GRACE", 0.3)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    return messages


@pytest.fixture
def joined(ends):
    """Three connected processes."""
    pairs = [[Link(end) for end in _connection()] for _ in (1, 2)]
    for number, (here, there) in enumerate(pairs, start=1):
        here.name, there.name = f"process {number}", "process 0"
    first = peers.Peers([here for here, _ in pairs], relays=True)
    found = [first, *(peers.Peers([there], relays=False) for _, there in pairs)]
    yield found
    for each in found:
        each.leave()
        peers.atexit.unregister(each._at_exit)
    for each in found:  # a thread that outlives the test would end the tests' process
        each._thread.join()


def _connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        return here, server.accept()[0]


def _wait(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _pass_points(process, generator, found, index, pause):
    for point in range(1, 400):
        if process.pass_point():
            found[index] = point
            return
        time.sleep(generator.uniform(0, pause))


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_signal_stops_all_at_the_same_point(who, joined):
    found, generator = {}, random.Random(who)
    threads = [
        threading.Thread(
            target=_pass_points, args=(process, generator, found, index, 0.01 * (index + 1))
        )
        for index, process in enumerate(joined)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    joined[who].want_stop(15)
    for thread in threads:
        thread.join(timeout=20)
    assert len(found) == 3 and len({*found.values()}) == 1, found


def test_signals_to_all_at_once_stop_them_once(joined):
    for process in joined:
        process.want_stop(15)
    found = {}
    threads = [
        threading.Thread(target=_pass_points, args=(process, random.Random(0), found, index, 0.001))
        for index, process in enumerate(joined)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(found) == 3 and len({*found.values()}) == 1, found


def test_a_process_that_dies_ends_the_others(joined, ends):
    joined[1]._is_leaving = True  # its thread ends; nothing is said
    joined[1]._links[0].socket.shutdown(socket.SHUT_RDWR)
    _wait(lambda: len(ends) == 2)
    assert all(text.startswith("process 1 has died; this process stops too") for text in ends)


def test_the_death_of_the_first_ends_the_others(joined, ends):
    joined[0]._is_leaving = True
    for link in joined[0]._links:
        link.socket.shutdown(socket.SHUT_RDWR)
    _wait(lambda: len(ends) == 2)
    assert {text.partition(" has")[0] for text in ends} == {"process 0"}


def test_a_process_that_fails_ends_the_others_after_a_while(joined, ends):
    began = time.monotonic()
    joined[2].leave(70)
    _wait(lambda: len(ends) == 2)
    assert time.monotonic() - began > 0.3
    assert all("process 2 has ended (exit code 70)" in text for text in ends)


def test_processes_that_end_well_leave_the_others_alone(joined, ends):
    joined[1].leave(0)
    joined[1]._links[0].socket.shutdown(socket.SHUT_RDWR)
    joined[2].leave(0)
    time.sleep(0.8)
    assert not ends


def test_after_a_common_stop_the_first_to_end_leaves_the_others_alone(joined, ends):
    joined[0].want_stop(15)
    _wait(lambda: all(process._stop_at == 1 for process in joined))
    assert [process.pass_point() for process in joined] == [15, 15, 15]
    joined[1].leave(143)
    time.sleep(0.8)
    assert not ends


def test_a_failed_process_waits_until_the_others_have_ended(joined, monkeypatch):
    codes = []
    monkeypatch.setattr(process_exit, "leave", codes.append)
    joined[0].leave(70)
    thread = threading.Thread(target=joined[0]._quit, args=(70,))
    thread.start()
    time.sleep(0.1)
    assert not codes
    for process in joined[1:]:
        process.leave(75)
        process._links[0].socket.shutdown(socket.SHUT_RDWR)
    thread.join()  # it gives up before long; later it would end the tests' process
    assert codes == [70]
