"""Devices that are not there end in one message; an installed libtpu is quiet without a TPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

from distill.common import devices


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
    for name in devices.NO_TPU_HOST:
        monkeypatch.setenv(name, "x")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    devices.quiet_libtpu(str(tmp_path))
    assert all((name in os.environ) == quiet for name in devices.NO_TPU_HOST)
