"""Injects faults, and says whether the run ended as it should."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import pathlib

from harness import KINDS, Driver, Fault

STOPPED, HARMLESS = "exit 2", "harmless"


def content(run_dir: pathlib.Path) -> dict[str, object]:
    """Everything of a finished run that must not differ: texts, digests of all parameters.

    Args:
      run_dir: the run folder.

    Returns:
      By file, and by checkpoint.
    """
    results = json.loads((run_dir / "results.json").read_text())
    del results["seconds"]
    names = ("metrics.jsonl", "predictions_test.jsonl", "config.gin")
    steps = [path for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit()]
    return {
        "results.json": json.dumps(results),
        **{name: (run_dir / name).read_text() for name in names},
        **{f"checkpoint {path.name}": _digest(path) for path in steps},
    }


def _digest(step: pathlib.Path) -> str:
    import jax
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        leaves = jax.tree.leaves(jax.device_get(reader.restore(step / "default")))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


class Table:
    """Counts of endings by group."""

    def __init__(self) -> None:
        self._counts: dict[str, collections.Counter] = {}
        self.problems: list[tuple[Fault, str]] = []

    def add(self, fault: Fault, ending: str) -> None:
        """Counts one; an ending other than the two good ones is a problem."""
        self._counts.setdefault(fault.group, collections.Counter())[ending] += 1
        if ending not in (STOPPED, HARMLESS):
            self.problems.append((fault, ending))

    def __str__(self) -> str:
        lines = [f"{'faults':30}{'injected':>10}{STOPPED:>10}{HARMLESS:>10}{'else':>6}"]
        total = collections.Counter()
        for group, counts in [*self._counts.items(), ("all", total)]:
            known = counts[STOPPED] + counts[HARMLESS]
            injected = sum(counts.values())
            lines.append(
                f"{group:30}{injected:>10}{counts[STOPPED]:>10}{counts[HARMLESS]:>10}"
                f"{injected - known:>6}"
            )
            if counts is not total:
                total.update(counts)
        lines += [f"{fault}: {ending}" for fault, ending in self.problems]
        return "\n".join(lines)


class Faults:
    """Injects faults, and compares what comes of them with an undisturbed run.

    Attributes:
      driver: what trains.
      expected: the content of the undisturbed run.
      last: how the last run with a fault ended.
    """

    def __init__(self, driver: Driver) -> None:
        """Trains the undisturbed run."""
        self.driver = driver
        undisturbed = driver.train()
        assert (undisturbed.code, undisturbed.problem) == (0, ""), undisturbed.output
        self.expected = content(driver.run_dir)
        self.last = undisturbed

    @functools.cache  # noqa: B019 - there is one object a session
    def calls(self, where: str) -> dict[str, int]:
        """How many calls of each kind an undisturbed run makes."""
        ending = self.driver.train(log_calls=where, clean=self._clean(where))
        assert ending.code == 0 and not ending.problem, ending.output
        kinds = [call.kind for call in ending.calls]
        return {kind: kinds.count(kind) for kind in KINDS}

    def inject(self, fault: Fault) -> str | None:
        """Trains with a fault, and again without: the ending; None if the fault was not reached."""
        ending = self.driver.train(fault, clean=self._clean(fault.where))
        if not any(call.failed for call in ending.calls) and not ending.problem:
            return None
        self.last = ending
        after = ending if ending.code == 0 and not ending.problem else self.driver.train()
        if after.code != 0 or after.problem:
            return f"{ending.problem or 'stops'}; again: {after.problem or after.message}"
        changed = {
            name
            for name, text in content(self.driver.run_dir).items()
            if self.expected.get(name) != text
        }
        problem = "; ".join(filter(None, (ending.problem, *(f"other {x}" for x in changed))))
        return problem or (HARMLESS if ending.code == 0 else STOPPED)

    def _clean(self, where: str) -> list[pathlib.Path]:
        tokens = [path for path in self.driver.cache_dir.iterdir() if path.name != "xla"]
        return [self.driver.run_dir, *(tokens if where == "cache" else ())]
