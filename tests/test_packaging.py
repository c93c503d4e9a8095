"""What is declared, built and installed: dependencies, wheels and editable installs."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence

import pytest

import distill

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("distill", "tasks")
NOT_DECLARED = {
    "t5x",  # of the t5x engine alone; requirements/t5x.txt pins it, for it is not on PyPI
    "_typeshed",  # of type checkers
}
# Declared, and not imported by name: distribution -> what needs it.
NOT_IMPORTED = {"importlib-resources": "tensorflow-datasets imports it without declaring it"}


def normalized(requirement: str) -> str:
    """The name of a distribution in a requirement, as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def imported(folders: Iterable[str]) -> dict[str, str]:
    """Top-level module -> a file that imports it, without the standard library."""
    found: dict[str, str] = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.split(".")[0], str(path.relative_to(ROOT)))
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_imported_package_is_declared(project):
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    declared = {normalized(text) for text in [*project["dependencies"], *extras]}
    distributions = importlib.metadata.packages_distributions()
    modules = imported(PACKAGES)
    assert {"distill", "jax", "numpy", "tqdm"} <= set(modules)  # the scan sees imports at all
    undeclared = {
        name: path
        for name, path in modules.items()
        if name not in {*PACKAGES, *NOT_DECLARED}
        and not declared & {normalized(text) for text in distributions.get(name, [name])}
    }
    assert undeclared == {}


def test_every_declared_dependency_is_imported(project):
    distributions = importlib.metadata.packages_distributions()
    used = {
        normalized(text) for name in imported(PACKAGES) for text in distributions.get(name, [name])
    }
    declared = {normalized(text) for text in project["dependencies"]}
    assert declared - used == set(NOT_IMPORTED)


def test_the_lock_pins_what_is_declared(project):
    lines = (ROOT / "requirements" / "lock.txt").read_text().splitlines()
    pinned = {normalized(line) for line in lines if "==" in line}
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {normalized(text) for text in needed} - pinned == set()


def clone(folder: pathlib.Path) -> pathlib.Path:
    """A copy of what a build reads, in a folder that is named as the package is."""
    copy = folder / "distill"
    for name in ("gin", "launch", *PACKAGES):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def run(python: str, arguments: Sequence[str], folder: pathlib.Path) -> str:
    """Output of a Python process in a folder, without this one's PYTHONPATH."""
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def build(copy: pathlib.Path, kind: str, target: pathlib.Path) -> pathlib.Path:
    """Calls the build backend: `kind` is wheel or editable."""
    target.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run(sys.executable, ["-c", code], copy)
    (wheel,) = target.glob("*.whl")
    return wheel


def test_an_editable_install_is_found_from_the_parent_folder(tmp_path):
    copy = clone(tmp_path / "parent")
    wheel = build(copy, "editable", tmp_path / "dist")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    # A checkout may be installed too: its entry would come first.
    code = "import os, site, sys; found = lambda p: os.path.isfile(f'{p}/distill/__init__.py'); "
    code += "sys.path[:] = [p for p in sys.path if p == '' or not found(p)]; "
    code += f"site.addsitedir({str(site)!r}); import distill, gin; "
    code += "print(distill.__version__, distill.__file__, bool(gin.__file__))"
    told = run(sys.executable, ["-c", code], copy.parent)
    assert told == f"{distill.__version__} {copy / 'distill' / '__init__.py'} True"


@pytest.mark.slow
def test_a_wheel_holds_everything(tmp_path):
    """Installs it in another environment, which sees only the dependencies of this one."""
    copy = clone(tmp_path / "parent")
    wheel = build(copy, "wheel", tmp_path / "dist")
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    python = str(environment / "bin" / "python")
    command = ["-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel)]
    run(sys.executable, command, tmp_path)
    site = pathlib.Path(
        run(python, ["-c", "import site; print(*site.getsitepackages())"], tmp_path)
    )
    dependencies = pathlib.Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")

    told = run(python, ["-c", "import distill; print(distill.__file__)"], copy.parent)
    assert pathlib.Path(told) == site / "distill" / "__init__.py"
    assert run(python, ["-m", "distill", "--version"], copy.parent) == (
        f"distill {distill.__version__}"
    )
    script = [str(environment / "bin" / "distill"), "--version"]
    assert run(python, script, copy.parent) == f"distill {distill.__version__}"
    show = ["-m", "distill", "config", "show", "--gin_file=tickets_step_by_step"]
    assert "LABEL_WEIGHT" in run(python, show, copy.parent)

    def contents(folder: pathlib.Path) -> set[str]:
        files = (path for path in folder.rglob("*") if path.is_file())
        found = {path.relative_to(folder).as_posix() for path in files}
        return {name for name in found if not name.endswith(".pyc")}

    assert contents(site / "distill" / "gin") == contents(copy / "gin")
    package = {name for name in contents(site / "distill") if not name.startswith("gin/")}
    launch = {f"launch/{name}" for name in contents(copy / "launch")}
    assert package == contents(copy / "distill") | launch and "py.typed" in package
    assert "launch/vm/startup.sh" in launch
    code = "from distill.launch import vm; print(vm.gin_root() / 'launch' / 'vm' / 'train.sh')"
    assert pathlib.Path(run(python, ["-c", code], copy.parent)).is_file()
    assert contents(site / "tasks") == contents(copy / "tasks")
