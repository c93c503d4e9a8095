"""The gin files are found from a checkout, an editable install and a wheel."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

from distill.config import files
from distill.errors import UserError

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PROBE = (
    "from distill.config import files, resolve\n"
    "names = files.list_gin_files('experiments')\n"
    "found, engine, paths = resolve.read_macros(['tickets_step_by_step'])\n"
    "print(files.gin_root(), len(names), found.value('LABEL_WEIGHT'))\n"
)


def _copy(target: pathlib.Path) -> pathlib.Path:
    for name in ("setup.py", "pyproject.toml", "README.md"):
        target.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, target / name)
    for name in ("distill", "tasks", "gin"):
        shutil.copytree(
            CHECKOUT / name, target / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return target


def _pip(*arguments: str, python: str = sys.executable) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    env = os.environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}  # setuptools
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def _probe(python: str, cwd: pathlib.Path, path: str) -> list[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": path}
    done = subprocess.run([python, "-c", PROBE], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def _expected() -> list[str]:
    return [str(len(files.list_gin_files("experiments"))), "0.3"]


def test_a_checkout_is_found_from_another_folder(tmp_path):
    checkout = _copy(tmp_path / "checkout")
    root, *rest = _probe(sys.executable, tmp_path, str(checkout))
    assert root == str(checkout)
    assert rest == _expected()


def test_an_editable_install_uses_the_checkout(tmp_path):
    checkout = _copy(tmp_path / "checkout")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    _pip("install", "-q", "--no-deps", "--no-build-isolation", "-e", str(checkout), python=python)
    # The dependencies come last, behind the new environment's own packages.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    root, *rest = _probe(python, tmp_path, "")
    assert root == str(checkout)
    assert rest == _expected()


def test_a_wheel_carries_the_gin_files(tmp_path):
    checkout = _copy(tmp_path / "checkout")
    _pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(checkout))
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", format="zip")
    shutil.rmtree(checkout)
    root, *rest = _probe(sys.executable, tmp_path, str(tmp_path / "installed"))
    assert root == str(tmp_path / "installed" / "distill")
    assert rest == _expected()


@pytest.mark.parametrize(
    "name",
    ["gin/sizes/tiny.gin", "gin/sizes/tiny", "sizes/tiny.gin", "tickets_finetune"],
)
def test_short_names_resolve(name):
    assert pathlib.Path(files.resolve_path(name)).is_file()


def test_the_closest_files_are_named_once_and_only_if_alike():
    with pytest.raises(UserError) as refused:
        files.resolve_path("gin/meshes/v5e.gin")
    near = str(refused.value).partition("closest: ")[2].split(", ")
    assert near and len(near) == len({*near})
    with pytest.raises(UserError, match="no gin file has a similar name"):
        files.resolve_path("/nowhere/qqqqqqqqqqqqqq.zzz")


def test_a_folder_is_named_as_one(tmp_path):
    with pytest.raises(UserError, match="it is a folder without gin files"):
        files.resolve_path(str(tmp_path))


def test_a_missing_file_lists_the_closest():
    with pytest.raises(UserError, match=r"tickets_step.*closest: gin/experiments/tickets_step_by"):
        files.resolve_path("tickets_step_by_stop")
    with pytest.raises(UserError, match=r"'finetun' .*closest: gin/methods/finetune.gin"):
        files.resolve_path("finetun")
