"""Devices that are not there end in one message; an installed libtpu is quiet without a TPU."""

import importlib.util
import os
import subprocess
import sys

import jax
import pytest

from distill.common import cluster, devices


@pytest.mark.parametrize("platform", ["cuda", "nowhere"])
def test_a_platform_that_is_not_here_is_one_message(platform, tmp_path):
    code = (
        "from distill.common.devices import check_devices\n"
        "from distill.errors import UserError\n"
        "try:\n    check_devices()\nexcept UserError as error:\n    print(error)\n"
    )
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    said = done.stdout.decode()
    if not said:
        pytest.skip(f"this machine has {platform}")
    assert said.startswith("jax found no device") and f"JAX_PLATFORMS is '{platform}'" in said
    assert len(said.splitlines()) == 1 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("vendor", "installed", "quiet"),
    [("0x8086", True, True), ("0x1ae0", True, False), ("0x8086", False, False)],
)
def test_libtpu_is_told_that_this_is_no_tpu_host(tmp_path, monkeypatch, vendor, installed, quiet):
    (tmp_path / "0000:00:05.0").mkdir()
    (tmp_path / "0000:00:05.0" / "vendor").write_text(f"{vendor}\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    found = devices.libtpu_environment(str(tmp_path))
    assert found == (devices.NO_TPU_HOST if quiet else {})


def test_only_the_start_of_jax_sees_these_variables(monkeypatch):
    """They would make `cluster.detect` find a TPU slice, here and in processes started later."""
    for name in ("TPU_PROCESS_ADDRESSES", *devices.NO_TPU_HOST):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "libtpu_environment", lambda: devices.NO_TPU_HOST)
    seen, before = [], (dict(os.environ), cluster.detect())
    monkeypatch.setattr(jax, "devices", lambda: seen.append(os.environ["TPU_WORKER_HOSTNAMES"]))
    devices.check_devices()
    assert seen == ["localhost"]
    assert (dict(os.environ), cluster.detect()) == before


def test_variables_that_are_set_keep_their_value(monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "mine")
    monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
    with devices.variables(devices.NO_TPU_HOST):
        assert os.environ["TPU_WORKER_HOSTNAMES"] == "mine"
        assert os.environ["TPU_ACCELERATOR_TYPE"] == "v5litepod-4"
    assert os.environ["TPU_WORKER_HOSTNAMES"] == "mine"
    assert "TPU_ACCELERATOR_TYPE" not in os.environ
