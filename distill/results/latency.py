"""latency.jsonl: how long students take to decode a label, measured after the sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from distill.common.phrases import number_of
from distill.common.progress import Say, to_stderr
from distill.common.text_files import json_object
from distill.errors import UserError
from distill.results import store
from distill.results.typed_fields import build

LATENCY = "latency.jsonl"
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """A measurement of one student; a JSON object a line.

    Attributes:
      format: FORMAT.
      run: id of the run, as in its record.
      median_ms, p10_ms, p90_ms: milliseconds to decode the label of a row by itself: median, and
        10th and 90th percentile of the rows.
      rows: number of test rows.
      device: kind of the device that decodes, e.g. "cpu" or "NVIDIA H100".
      processor: name of the processor.
      cores: that the process may use.
      other_cores: that other processes kept busy meanwhile, on average; None if it is not known.
      host: machine.
      versions: as in records.
      measured: when: ISO 8601, UTC.

    Raises:
      UserError: another format; times that are not positive, or not in order.
    """

    run: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    rows: int
    device: str
    processor: str
    cores: int
    other_cores: float | None
    host: str
    versions: Mapping[str, str]
    measured: str
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise UserError(f"got format {self.format}, expected {FORMAT}")
        times = self.p10_ms, self.median_ms, self.p90_ms
        if not all(map(math.isfinite, times)) or not 0 < times[0] <= times[1] <= times[2]:
            raise UserError(
                f"got p10_ms, median_ms, p90_ms {times}, expected 0 < p10 <= ... <= p90"
            )

    @property
    def machine(self) -> str:
        """What latencies are comparable on."""
        return machine_name(self.device, self.processor, self.cores, self.versions)

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for `json.dumps`; `format` first."""
        fields = dataclasses.asdict(self)
        return {"format": fields.pop("format"), **fields}


def machine_name(device: str, processor: str, cores: int, versions: Mapping[str, str]) -> str:
    """A machine as captions have it, e.g. "AMD EPYC, 2 cores, jax 0.10.2"."""
    hardware = processor if device == "cpu" else f"{device}, {processor}"
    return f"{hardware}, {number_of(cores, 'core')}, jax {versions.get('jax', 'unknown')}"


def latency_path(place: epath.PathLike) -> epath.Path:
    """The file, beside the records of a results folder (`store.records_path`)."""
    return store.records_path(place).parent / LATENCY


def append(place: epath.PathLike, found: Latency, say: Say = to_stderr) -> None:
    """Adds a measurement; arguments and errors are those of `store.append`."""
    store.append_line(latency_path(place), found.to_json(), say)


def read(place: epath.PathLike, say: Say = to_stderr) -> tuple[list[Latency], list[str]]:
    """All measurements in their order; none where nothing was measured.

    Args:
      place: a results folder, or its file of records.
      say: takes a line about a last line that was cut off.

    Returns:
      The measurements; and what is wrong with each other line, by file and line.

    Raises:
      UserError: the file cannot be read.
    """
    path, found, problems = latency_path(place), [], []
    for where, line in store.lines(path, say) if path.exists() else ():
        try:
            found.append(build(Latency, json_object(line, where), where))
        except UserError as error:
            problems.append(str(error))
    return found, problems
