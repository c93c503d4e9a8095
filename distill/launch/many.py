"""The verbs for the launches of a work list: `run` several at once, `status` and `down` of all."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, cast

from etils import epath

from distill.common.atomic import write_text
from distill.common.phrases import have, number_of
from distill.errors import CheckFailed, UserError
from distill.launch import verbs, work_list
from distill.launch.command import Command, execute
from distill.launch.state import LaunchState, load
from distill.launch.verbs import Launch
from distill.launch.work_list import Item

# What came of a run.
DONE, BEFORE, FAILED = "done", "done before", "failed"
INTERRUPTED, NOT_STARTED = "interrupted", "not started"
_LOOK = 1.0  # seconds in which Ctrl-C is noticed
_LOOKS_AT_ONCE = 8  # launches that `status` asks for
_LOG_LINES = 200  # of each host, kept of a run that failed

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
      run: its id.
      launch: name of its launch.
      result: DONE, BEFORE, FAILED, INTERRUPTED or NOT_STARTED.
      error: why it failed, or "".
      restarts: how often its training was started again.
      created: what is left of its slice.
    """

    run: str
    launch: str
    result: str
    error: str
    restarts: int
    created: tuple[str, ...]


class WorkList:
    """The launches of a work list.

    Args:
      path: of the list.
      say: takes lines of progress.

    Raises:
      UserError: see `work_list.read`; a run without a state file, or with one of another list.
    """

    def __init__(self, path: str, say: Say) -> None:
        self.path, self.items, self._say = path, work_list.read(path), say
        self._stop = threading.Event()
        missing = [item.run for item in self.items if not epath.Path(self._state(item)).exists()]
        if missing:
            raise UserError(
                f"{number_of(len(missing), 'run')} of {path} {have(len(missing))} no launch, the "
                f"first {missing[0]}: `distill launch plan --work_list={path}` plans them"
            )
        self._states = {item.run: self._load(item) for item in self.items}

    def finished(self) -> frozenset[str]:
        """The runs whose results are in the bucket.

        Raises:
          CommandFailed: the bucket cannot be listed.
        """
        (result,) = execute([work_list.ask_finished(self.items)])
        return work_list.parse_finished(self.items, result)

    def run(self, at_once: int) -> list[Outcome]:
        """Gets a slice for each run that is not finished, trains it, and deletes the slice.

        Args:
          at_once: slices that exist at the same time.

        Returns:
          What came of each run, in the order of the list.

        Raises:
          CommandFailed: the bucket cannot be listed.
          KeyboardInterrupt: Ctrl-C; slices that are not ready are deleted, trainings continue.
        """
        finished = self.finished()
        found: dict[str, Outcome] = {}
        interrupt: KeyboardInterrupt | None = None
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            try:
                left: set[Future[Outcome]] = {
                    pool.submit(self._carry, item, item.run in finished) for item in self.items
                }
                while left:
                    try:
                        ended, left = wait(left, timeout=_LOOK, return_when=FIRST_COMPLETED)
                    except KeyboardInterrupt as error:
                        interrupt = interrupt or error
                        self._say("interrupted: waiting for the commands that run")
                        self._stop.set()
                        continue
                    for outcome in (each.result() for each in ended):
                        found[outcome.run] = outcome
                        self._tell(outcome, len(found))
            finally:
                self._stop.set()
        outcomes = [found[item.run] for item in self.items]
        if interrupt is not None:
            raise KeyboardInterrupt(_describe_interrupt(outcomes, self.path))
        return outcomes

    def status(self) -> list[dict[str, Any]]:
        """How each run is: a mapping for each, in the order of the list.

        Raises:
          CommandFailed: the bucket cannot be listed.
        """
        finished = self.finished()
        with ThreadPoolExecutor(max_workers=_LOOKS_AT_ONCE) as pool:
            return list(pool.map(lambda item: self._look(item, item.run in finished), self.items))

    def down(self) -> list[dict[str, Any]]:
        """Deletes what the launches created; a mapping for each, in the order of the list."""
        rows = []
        for item in self.items:
            launch, error, deleted = self._launch(item), "", list[str]()
            if launch.state.created:
                try:
                    deleted = launch.down()
                except UserError as failed:
                    error = str(failed)
            rows.append(
                {
                    "run": item.run,
                    "launch": launch.settings.name,
                    "deleted": deleted,
                    "left": launch.state.created,
                    "error": error,
                }
            )
        return rows

    def commands(self, verb: str) -> list[tuple[str, Command]]:
        """The commands of a verb, each with its run, or "" for one of the whole list."""
        listed = [] if verb == "down" else [("", work_list.ask_finished(self.items))]
        for item in self.items:
            state = self._states[item.run]
            listed += [(item.run, command) for command in _commands(state, verb)]
        return listed

    def _state(self, item: Item) -> str:
        return work_list.state_path(self.path, item)

    def _load(self, item: Item) -> LaunchState:
        state = load(self._state(item))
        if state.settings.run_dir != item.run_dir:
            raise UserError(
                f"{state.path} is of a launch that writes {state.settings.run_dir}, but "
                f"{self.path} has {item.run_dir}: give the list another name, or plan it again "
                f"(`distill launch plan --work_list={self.path}`)"
            )
        return state

    def _launch(self, item: Item) -> Launch:
        def say(line: str) -> None:
            self._say(f"{item.run}: {line}")

        return Launch(self._load(item), say, self._pause)

    def _pause(self, seconds: float) -> None:
        """Waits; ends the verb of this thread when Ctrl-C ends that of the list."""
        if self._stop.wait(seconds):
            raise KeyboardInterrupt

    def _carry(self, item: Item, is_finished: bool) -> Outcome:
        """Carries a run to its end; see `run`."""
        launch = self._launch(item)
        state, error = launch.state, ""
        try:
            if self._stop.is_set():
                result = NOT_STARTED
            elif is_finished:
                result = BEFORE
                if state.created:
                    launch.down()
            else:
                if state.created:
                    launch.resume()
                else:
                    launch.up()
                    launch.run()
                result = DONE
        except KeyboardInterrupt:
            result = INTERRUPTED
        except UserError as failed:
            result, error = FAILED, str(failed)
            if self._stop.is_set():  # Ctrl-C reaches the commands of this process, too
                result = INTERRUPTED
            elif state.created and state.phase != "running" and self._is_own(launch):
                self._clear(item, launch, error)
        created = tuple(state.created)
        return Outcome(item.run, state.settings.name, result, error, state.restarts, created)

    def _is_own(self, launch: Launch) -> bool:
        """Whether no other process has worked on a launch since it was read."""
        return load(launch.state.path).revision == launch.state.revision

    def _clear(self, item: Item, launch: Launch, error: str) -> None:
        """Keeps the end of the log of a training that failed, and deletes its slice."""
        path = work_list.log_path(self.path, item)
        try:
            logs = launch.logs(_LOG_LINES)
        except CheckFailed as some:
            given = cast(list[tuple[str, str]], some.result["logs"])
            logs = [*given, ("not all logs", str(some))]
        except UserError as none:
            logs = [("no logs", str(none))]
        write_text(epath.Path(path), "".join(f"== {what}\n{text}\n" for what, text in logs))
        launch.say(f"the end of its log is in {path}; deleting its slice")
        try:
            launch.down()
            launch.state.note(error, "failed")
        except UserError as left:
            launch.say(str(left))

    def _look(self, item: Item, is_finished: bool) -> dict[str, Any]:
        """The row of a run in `status`."""
        launch = self._launch(item)
        state, settings = launch.state, launch.settings
        row: dict[str, Any] = {
            "run": item.run,
            "launch": settings.name,
            "state": "done" if is_finished else state.phase,
            "slice": "",
            "training": "",
            "detail": "",
            "restarts": state.restarts,
            "hours": state.elapsed_hours if state.created else 0.0,
            "created": state.created,
        }
        if state.created:
            try:
                where, training = launch.status()
            except UserError as error:
                row["detail"] = str(error)
            else:
                row |= {"slice": where.phase, "detail": where.detail}
                if training is not None:
                    row |= {"training": training.phase or "not known"}
                    row["detail"] = training.detail or where.detail
        elif state.phase == "failed" and not is_finished:
            row["detail"] = str(state.history[-1].get("note", ""))
        return row

    def _tell(self, outcome: Outcome, number: int) -> None:
        more = f": {outcome.error}" if outcome.error else ""
        self._say(f"{number}/{len(self.items)} {outcome.run}: {outcome.result}{more}")


def _commands(state: LaunchState, verb: str) -> Iterable[Command]:
    if verb == "down":
        return Launch(state, lambda line: None).deletions()
    parts = ("up", "run", "down") if verb == "run" else (verb,)
    return [
        command
        for part in parts
        for command in verbs.dry_run(state.settings, part, Path(state.folder))
    ]


def _describe_interrupt(outcomes: Sequence[Outcome], path: str) -> str:
    done = sum(each.result in (DONE, BEFORE) for each in outcomes)
    left = [each.run for each in outcomes if each.created]
    told = f"interrupted: {done} of {number_of(len(outcomes), 'run')} are done"
    if left:
        told += (
            f"; slices that cost money are left of {', '.join(left)}, and their trainings "
            f"continue: `distill launch down --work_list={path}` deletes them"
        )
    return f"{told}; the same command goes on"


def collecting(items: Sequence[Item]) -> str:
    """The command that records the finished runs."""
    return f"distill sweep FILE --out=FOLDER --collect={items[0].root}"
