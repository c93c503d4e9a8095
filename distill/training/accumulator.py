"""Metrics of a log period: gathered on the devices, reported as means, kept when a run stops."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping

import jax
import numpy as np
from etils import epath

from distill.common.atomic import write_json
from distill.common.progress import Progress, to_stderr
from distill.errors import UserError
from distill.training import hosts
from distill.training.optimizer import make_schedule
from distill.training.run_folder import NOT_FINITE, MetricsLog
from distill.training.trainer import Trainer

UNREPORTED = "unreported.json"
Metrics = Mapping[str, jax.Array | np.ndarray]  # of a step, by name


class MetricAccumulator:
    """Gathers the metrics of a log period on the devices, and reports their means."""

    def __init__(
        self,
        trainer: Trainer,
        start: int,
        progress: Callable[[str], None],
        metrics_log: MetricsLog,
        folder: epath.Path,
    ) -> None:
        self._trainer, self._log, self._folder = trainer, metrics_log, folder
        unreported = _read_unreported(folder).get(str(start))
        self.was_stopped = unreported is not None  # by a signal, at the step `start`
        self._metrics: list[Metrics] = [*(unreported or [])]
        self._schedule = make_schedule(trainer.config.optimizer)
        self._mark, self._fetched = (start, time.monotonic()), start
        self._bar = Progress(
            trainer.config.train.train_steps,
            "training",
            "steps",
            initial=start,
            say=None if progress is to_stderr else progress,
            period=math.inf,  # a line per report, and where reports are rare
            count=self.steps_done,
        )

    def add(self, metrics: Metrics) -> None:
        """Keeps a step's metrics without waiting for them."""
        self._metrics.append(metrics)

    def restart_clock(self) -> None:
        """Leaves the first step, which compiles, out of the rate that is shown."""
        self._bar.update(1)
        self._bar.restart_clock()

    def report(self, step: int) -> None:
        """Writes and prints the means since the last report.

        Raises:
          UserError: a loss that is not finite.
        """
        fetched: list[dict[str, np.ndarray]] = jax.device_get(self._metrics)
        self._fetched, self._metrics = step, []
        for step_of_metrics, metrics in enumerate(fetched, step - len(fetched) + 1):
            if not np.isfinite(metrics["loss"]):
                self._stop(step_of_metrics, metrics)
        tasks = self._trainer.config.data.tasks
        losses_K = np.mean([m["losses"] for m in fetched], axis=0)
        means = {f"loss_{task}": float(v) for task, v in zip(tasks, losses_K, strict=True)}
        means |= {k: float(np.mean([m[k] for m in fetched])) for k in ("loss", "grad_norm")}
        means["learning_rate"] = float(np.asarray(self._schedule(step - 1)))
        before, previous_time = self._mark
        self._mark = (step, time.monotonic())
        speed = (step - before) / max(self._mark[1] - previous_time, 1e-9)
        self._log.write(step, means, {"steps_per_second": speed})
        losses = "".join(f", {task} {means[f'loss_{task}']:.4f}" for task in tasks)
        self._bar.set_postfix_str(f"loss {means['loss']:.4f}{losses}", refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.report()

    def keep(self, step: int, steps: Collection[int]) -> None:
        """Stores what is not reported yet: a run that resumes at this step reports it.

        Args:
          step: the step that is going to be saved.
          steps: steps of other checkpoints, whose metrics stay.
        """
        if not hosts.is_host0():
            return
        old = _read_unreported(self._folder)
        kept = {key: old[key] for key in map(str, steps) if key in old}
        kept[str(step)] = jax.device_get(self._metrics)
        content = {
            key: [{name: _to_json(value) for name, value in m.items()} for m in records]
            for key, records in kept.items()
        }
        write_json(self._folder / UNREPORTED, content)

    def steps_done(self) -> int:
        """Steps that the devices have finished."""
        losses = [metrics["loss"] for metrics in [*self._metrics]]
        return self._fetched + sum(isinstance(n, jax.Array) and _is_ready(n) for n in losses)

    def __enter__(self) -> MetricAccumulator:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def _stop(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Writes what explains a loss that is not finite, and ends the run."""
        tasks = self._trainer.config.data.tasks
        rows = self._trainer.cache.rows["train"]
        content = {
            "step": step,
            **{f"loss_{t}": str(v) for t, v in zip(tasks, metrics["losses"], strict=True)},
            "grad_norm": str(metrics["grad_norm"]),
            "rows": [rows[index].id for index in self._trainer.stream.rows(step - 1)],
        }
        if hosts.is_host0():
            write_json(self._folder / NOT_FINITE, content)
        raise UserError(
            f"the loss is {metrics['loss']} at step {step}: {self._folder / NOT_FINITE} has the "
            f"task losses and the rows of the batch; {self._advice()}, then train again in a new "
            "--run_dir"
        )

    def _advice(self) -> str:
        """What makes steps smaller: CLIP_NORM = 0 turns clipping off."""
        clip_norm = self._trainer.config.optimizer.clip_norm
        return "lower LEARNING_RATE or " + ("CLIP_NORM" if clip_norm else "set CLIP_NORM, e.g. 1.0")


def _is_ready(array: jax.Array) -> bool:
    """Whether the devices have computed it; jax's types do not declare the method."""
    return bool(getattr(array, "is_ready")())  # noqa: B009


def _to_json(value: np.ndarray | jax.Array) -> dict[str, object]:
    array = np.asarray(value)
    return {"dtype": array.dtype.name, "value": array.tolist()}


def _read_unreported(folder: epath.Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """Metrics by step that `MetricAccumulator.keep` stored; none if the file is damaged."""
    path = folder / UNREPORTED
    if not path.exists():
        return {}
    try:
        return {
            step: [
                {name: np.asarray(v["value"], v["dtype"]) for name, v in record.items()}
                for record in records
            ]
            for step, records in json.loads(path.read_bytes()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
