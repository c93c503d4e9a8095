"""requirements/install.py: what it says, and that a failure is one."""

import importlib.util
import pathlib
import sys

import pytest

PATH = pathlib.Path(__file__).resolve().parents[1] / "requirements" / "install.py"


@pytest.fixture(scope="module")
def install():
    spec = importlib.util.spec_from_file_location("install", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lines_come_while_a_command_works(install, monkeypatch, capsys):
    monkeypatch.setattr(install, "PERIOD", 0.3)
    code = "import time; print('Collecting jax (from -r lock.txt)'); time.sleep(1.5)"
    install.run([sys.executable, "-c", code], lambda lines: install.describe_packages(lines, 96))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3 and lines[-1].endswith("package 1 of 96: Collecting jax")


def test_unpacking_is_named(install):
    lines = ["Collecting jax\n", "WARNING: a\n", "Installing collected packages: jax\n"]
    assert install.describe_packages(lines[:2], 2) == "package 1 of 2: Collecting jax"
    assert install.describe_packages(lines, 2) == "unpacking the packages into the environment"
    assert install.describe_packages([], 2) == "package 0 of 2: starting pip"


def test_a_failure_shows_its_output(install, capsys):
    with pytest.raises(SystemExit) as stopped:
        install.run([sys.executable, "-c", "print('no space'); raise SystemExit(3)"], str)
    assert stopped.value.code == 3 and "no space" in capsys.readouterr().err
