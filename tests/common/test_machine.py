"""What other processes compute, and what the machine is called."""

import time

import pytest

from distill.common import machine


@pytest.fixture
def stat(tmp_path, monkeypatch):
    """(time, busy seconds of the machine, own ones) sets what the system says."""
    path = tmp_path / "stat"
    monkeypatch.setattr(machine, "_PROC_STAT", path)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)

    def set_to(now, busy, own):
        ticks = round(100 * busy / 6)
        path.write_text(
            f"cpu  {ticks} {ticks} {ticks} 777 999 {ticks} {ticks} {ticks} 5 5\ncpu0 1\n"
        )
        monkeypatch.setattr(time, "monotonic", lambda: now)
        monkeypatch.setattr(time, "process_time", lambda: own)

    return set_to


def test_work_of_others_is_what_is_not_our_own(stat):
    stat(10.0, 600.0, 3.0)
    others = machine.OtherWork()
    stat(14.0, 612.0, 9.0)  # 12 s in 4 s, 6 s of them ours
    assert others.cores() == pytest.approx(1.5, abs=0.05)
    stat(14.0, 603.0, 9.0)
    assert others.cores() == 0  # clocks differ a little


@pytest.mark.parametrize("text", [None, "", "cpu  0 0 0 0 0 0 0 0\n", "cpu  x\n", "cpu  1 2\n"])
def test_a_system_that_does_not_say_is_not_known(stat, text):
    stat(1.0, 600.0, 0.0)
    if text is None:
        machine._PROC_STAT.unlink()
    else:
        machine._PROC_STAT.write_text(text)
    others = machine.OtherWork()
    stat(2.0, 601.0, 0.0)
    assert others.cores() is None


def test_the_processor_has_a_name(tmp_path, monkeypatch):
    assert machine.cores() >= 1 and machine.processor()
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.processor()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD: EPYC\n")
    assert machine.processor() == "AMD: EPYC"
