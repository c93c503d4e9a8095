"""A run whose folder is on gs://: killed, disturbed and resumed, it is the undisturbed run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.slow
SAME = ("metrics.jsonl", "predictions_test.jsonl", "config.gin", "student.json")


def _train(train_command, micro, folder):
    return subprocess.run(
        train_command(folder, micro), capture_output=True, text=True, env={**os.environ}
    )


@pytest.fixture(scope="module")
def undisturbed(train_command, micro, tmp_path_factory):
    """The files SAME of a run whose folder is on a local disk."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = _train(train_command, micro, folder)
    assert done.returncode == 0, done.stderr
    return {name: (folder / name).read_bytes() for name in SAME}


def _files(objects, folder="bucket/run"):
    return {name: objects.get(f"{folder}/{name}") for name in SAME}


def test_a_run_in_a_bucket_is_that_on_a_disk(objects, train_command, micro, undisturbed):
    done = _train(train_command, micro, "gs://bucket/run")
    assert done.returncode == 0, done.stderr
    assert _files(objects) == undisturbed
    assert not [name for name in objects.names() if ".tmp" in name or name.endswith("/lock")]
    # Copied to a disk, it is a run folder there.
    again = _train(train_command, micro, "gs://bucket/run")
    assert again.returncode == 0 and "is finished: reading its results" in again.stderr


# What is being done when the process is killed: the kind of a request, and its path.
MOMENTS = [
    ("after", "write", r"run/metrics\.jsonl"),
    ("before", "write", r"checkpoints/4/default/d/.*"),
    ("before", "write", r"checkpoints/8/commit_success\.txt"),
    ("after", "delete", r"checkpoints/4/.*"),
    ("before", "write", r"run/predictions_test\.jsonl"),
]


def test_a_run_that_is_killed_resumes(objects, train_command, micro, undisturbed):
    """At each moment, one after the other in the same folder, before or after it takes effect."""
    for hook, kind, pattern in MOMENTS:
        process = subprocess.Popen(
            train_command("gs://bucket/run", micro),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        def kill(request, process=process, kind=kind, pattern=pattern):
            if request.kind == kind and re.search(f"{pattern}$", request.path):
                os.kill(process.pid, signal.SIGKILL)
                return 503  # nobody reads it
            return None

        setattr(objects, hook, kill)
        _, said = process.communicate()
        setattr(objects, hook, lambda request: None)
        assert process.returncode == -signal.SIGKILL, (kind, pattern, said)
    done = _train(train_command, micro, "gs://bucket/run")
    assert done.returncode == 0, done.stderr
    assert _files(objects) == undisturbed
    assert not [name for name in objects.names() if name.endswith("/lock")]


def test_a_run_survives_a_503_of_every_operation(objects, train_command, micro, undisturbed):
    """Each kind of request fails once for each path."""
    seen = set()

    def fail_once(request):
        place = re.sub(r"[0-9a-f]{32}|\d+", "N", str(request))
        if place in seen:
            return None
        seen.add(place)
        return 503

    objects.before = fail_once
    done = _train(train_command, micro, "gs://bucket/run")
    assert done.returncode == 0, done.stderr
    assert len(seen) > 60
    objects.before = lambda request: None
    assert _files(objects) == undisturbed


@pytest.mark.parametrize("pattern", ["run/config.gin", "checkpoints/4/default/.*", "run/lock"])
def test_a_store_that_refuses_ends_the_run_with_one_message(
    objects, train_command, micro, undisturbed, pattern
):
    def refuse(request):
        return 403 if request.kind != "stat" and re.search(f"{pattern}$", request.path) else None

    objects.before = refuse
    done = _train(train_command, micro, "gs://bucket/run")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("distill: gs://bucket/run"), done.stderr
    assert "Traceback" not in done.stderr
    objects.before = lambda request: None
    done = _train(train_command, micro, "gs://bucket/run")
    assert done.returncode == 0, done.stderr
    assert _files(objects) == undisturbed


def test_the_second_of_two_runs_is_refused(objects, train_command, micro):
    """The first one waits in its first checkpoint until the second has ended."""
    second = []

    def start_second(request):
        if "checkpoints/4/" in request.path and not second:
            objects.before = lambda request: None
            second.append(
                subprocess.Popen(
                    train_command("gs://bucket/run", micro), stderr=subprocess.PIPE, text=True
                )
            )

    objects.before = start_second
    first = subprocess.Popen(train_command("gs://bucket/run", micro), stderr=subprocess.DEVNULL)
    while not second and first.poll() is None:
        signal.sigtimedwait([], 0.1)
    os.kill(first.pid, signal.SIGSTOP)
    _, said = second[0].communicate()
    os.kill(first.pid, signal.SIGCONT)
    assert second[0].returncode == 2
    assert re.search(r"^distill: gs://bucket/run is in use by process \d+ on ", said, re.M), said
    assert first.wait() == 0
    assert len(objects.get("bucket/run/metrics.jsonl").splitlines()) > 2
    assert json.loads(objects.get("bucket/run/results.json"))
