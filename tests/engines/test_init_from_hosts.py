"""INIT_FROM on a mesh: four devices of two processes start with the parameters of one device."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pretrained import GOLDEN, LOSS, SETTINGS, metrics, train

SLACK = 2e-5  # sums run in another order


def _start(folder, source, log, devices: int, *flags: str, settings=SETTINGS):
    macros = (f"--gin.{text}" for text in settings)
    command = [sys.executable, "-m", "distill.cli", "train", "--gin_file=jsonl_pretrained"]
    command += [f"--init_from={source}", f"--run_dir={folder}", *macros, *flags]
    flag = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def _two_hosts(folder, sources, tmp_path, settings) -> list[tuple[int, str]]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    place = (f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2")
    logs = [tmp_path / f"{index}.log" for index in range(2)]
    started = [
        _start(folder, source, log, 2, *place, f"--process_id={index}", settings=settings)
        for index, (source, log) in enumerate(zip(sources, logs, strict=True))
    ]
    try:
        return [
            (process.wait(timeout=400), log.read_text())
            for process, log in zip(started, logs, strict=True)
        ]
    finally:
        for process in started:
            process.kill()


@pytest.mark.slow
def test_two_hosts_start_with_the_same_parameters(tmp_path):
    alone = train(GOLDEN, tmp_path / "alone")
    folder, settings = tmp_path / "run", (*SETTINGS, "PARAMETER_SHARDING=zero")
    for code, said in _two_hosts(folder, [GOLDEN] * 2, tmp_path, settings):
        assert code == 0, said
    lines = metrics(folder)
    for line, expected in zip(lines, alone, strict=True):
        assert line == pytest.approx(expected, rel=SLACK)
    assert lines[0]["loss_label"] == pytest.approx(LOSS["all_rows"]["label"], abs=1e-4)


@pytest.mark.slow
def test_hosts_with_other_files_are_refused(tmp_path):
    """Each host may have a copy of its own."""
    ours, theirs = (tmp_path / name / "checkpoint" for name in ("a", "b"))
    for copy in (ours, theirs):
        shutil.copytree(GOLDEN, copy)
    content = bytearray((theirs / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (theirs / "model.safetensors").write_bytes(content)
    # The same path on both, as two machines have it.
    link = tmp_path / "link"
    link.symlink_to(ours)
    answers = _two_hosts(tmp_path / "run", [link, theirs], tmp_path, SETTINGS)
    assert all(code == 2 for code, _ in answers), answers
    assert any("differs from that of process 0" in said for _, said in answers)
    assert not (tmp_path / "run").exists()
