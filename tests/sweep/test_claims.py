"""Files that one process at a time holds. Threads stand for processes: each opens the file."""

from __future__ import annotations

import threading
import time

from distill.sweep import claims


def test_a_claim_is_one_holders_at_a_time(tmp_path):
    path = tmp_path / "claim"
    assert not claims.is_claimed(path)
    descriptor = claims.try_claim(path)
    assert claims.is_claimed(path) and claims.try_claim(path) is None
    claims.release(descriptor)
    assert not claims.is_claimed(path)


def test_a_turn_is_one_holders_at_a_time(tmp_path):
    path, log = tmp_path / "a" / "turn", []

    def take_turns():
        for _ in range(20):
            with claims.turn(path):
                log.append(("in", threading.get_ident()))
                time.sleep(0.001)
                log.append(("out", threading.get_ident()))

    threads = [threading.Thread(target=take_turns) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log) == 120 and not path.exists()
    for (first, entered), (second, left) in zip(log[::2], log[1::2], strict=True):
        assert (first, second) == ("in", "out") and entered == left
