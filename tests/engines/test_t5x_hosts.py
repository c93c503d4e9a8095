"""Stock T5X trains on two processes. The gin files come from a run on one process."""

from __future__ import annotations

import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import needs_t5x
from test_t5x import EXPERIMENT, cache_dir  # noqa: F401  (a fixture of this file too)

from distill.config import resolve
from distill.convert import t5x_files
from distill.engines.t5x import train as engine


@needs_t5x
@pytest.mark.t5x
@pytest.mark.slow
def test_two_processes_train_from_the_same_gin(micro, tmp_path, cache_dir):  # noqa: F811
    """Each reads its part of the rows; both write one checkpoint of each save."""
    from etils import epath

    resolved = resolve.resolve([EXPERIMENT], micro, "t5x")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    flags = [f"--coordinator_address=127.0.0.1:{port}", "--process_count=2", "--multiprocess_gpu"]
    processes, logs = [], [tmp_path / f"{index}.log" for index in range(2)]
    for index, log in enumerate(logs):
        command = engine.command(resolved, epath.Path(tmp_path))
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(
                    [*command, *flags, f"--process_index={index}"],
                    stdout=file,
                    stderr=file,
                    env=environment,
                )
            )
    try:
        codes = [process.wait(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert codes == [0, 0], texts[0][-3000:] + texts[1][-3000:]
    assert max(t5x_files.steps(epath.Path(tmp_path / "t5x"))) == 12
    losses = [re.findall(r"\[(\d+)\] collection=train .*?\bloss=([\d.]+)", text) for text in texts]
    assert losses[0] and float(losses[0][-1][1]) < float(losses[0][0][1])
