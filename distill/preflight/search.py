"""Meshes, microbatches, recomputation and slices: ranked by estimate, the best compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distill.config.run import RunConfig
from distill.config.student import REMATS
from distill.config.train import PARAMETER_SHARDINGS
from distill.errors import UserError
from distill.preflight.chips import Topology
from distill.preflight.compile import batch_shapes
from distill.preflight.report import Report, inspect, settings

COMPILED = 3
# Estimates of temporaries are rough: what is to be compiled should leave this share free.
_MARGIN = 0.1
_MODEL_PARALLEL = (1, 2, 4, 8)
_DOUBLINGS = 4
_SHOWN = 10  # rows of the table
_TRIES = 2  # candidates of a slice that are compiled to find one that fits


def candidates(config: RunConfig, topology: Topology) -> Iterator[RunConfig]:
    """The run with every sensible combination of settings that the slice can have.

    Microbatches are powers of 2 up to one row a device and part; none needs more rows than the
    batch has by itself.
    """
    for model in _MODEL_PARALLEL:
        if topology.devices % model:
            continue
        data = topology.devices // model
        rows = batch_shapes(_changed(config, microbatches=1), data).rows // data
        parts = [2**i for i in range(12) if rows % 2**i == 0]
        for sharding in PARAMETER_SHARDINGS:
            if sharding == "zero" and data == 1:
                continue
            for microbatches in parts:
                for remat in REMATS:
                    yield _changed(
                        config,
                        remat=remat,
                        model_parallel=model,
                        parameter_sharding=sharding,
                        microbatches=microbatches,
                    )


def _changed(config: RunConfig, remat: str | None = None, **train: Any) -> RunConfig:
    student = config.student
    if remat is not None:
        student = dataclasses.replace(student, remat=remat)
    return dataclasses.replace(
        config, student=student, train=dataclasses.replace(config.train, **train)
    )


def ranked(
    config: RunConfig,
    topologies: Sequence[Topology],
    rows: int | None = None,
    price: float | None = None,
) -> list[tuple[Report, RunConfig, Topology]]:
    """All candidates on all slices, those that fit by estimate first, then by cost of a step.

    Cost is chips times the bound; of equals, that whose compute, memory and interconnect
    add up to less, as nothing overlaps perfectly.
    """
    results = []
    for topology in topologies:
        for candidate in candidates(config, topology):
            try:
                result = inspect(candidate, topology, False, rows, price)
            except UserError:  # heads or widths that this mesh cannot split
                continue
            results.append((result, candidate, topology))

    def key(item: tuple[Report, RunConfig, Topology]) -> tuple[bool, float, float]:
        result = item[0]
        chips = result["chips"]
        times = sum(result["seconds_by"].values())
        free = result["peak_bytes_per_chip"] <= (1 - _MARGIN) * result["hbm_bytes_per_chip"]
        return not free, chips * result["step_seconds_bound"], chips * times

    return sorted(results, key=key)


def search(
    config: RunConfig,
    topologies: Sequence[Topology],
    compiling: bool,
    rows: int | None = None,
    price: float | None = None,
    progress: Callable[[str], None] = print,
) -> list[Report]:
    """The ten best candidates and the best of every other slice, the first few compiled.

    Args:
      config: the run.
      topologies: slices to choose from.
      compiling: compile the best COMPILED with libtpu.
      rows: of a packed batch.
      price: of a chip an hour.
      progress: takes lines of text.

    Returns:
      Objects as of `distill.preflight.report.inspect`, the compiled ones first, those that
      fit in order of chips times seconds.

    Raises:
      UserError: no slice can have any of the settings.
    """
    every = ranked(config, topologies, rows, price)
    if not every:
        names = ", ".join(topology.name for topology in topologies)
        raise UserError(f"no mesh of {names} can split this student: choose another --topology")
    best, rest = every[: COMPILED if compiling else 0], every[COMPILED if compiling else 0 :]
    compiled = []
    for _, candidate, topology in best:
        description = " ".join(f"{k}={v}" for k, v in settings(candidate).items())
        progress(f"compiling {topology.name} {description}")
        compiled.append(inspect(candidate, topology, True, rows, price))
    compiled.sort(key=lambda r: (not r["fits"], r["chips"] * r["step_seconds_bound"]))
    table = [*compiled, *(result for result, *_ in rest[: max(_SHOWN - len(compiled), 0)])]
    for result, *_ in rest:
        if result["topology"] not in {row["topology"] for row in table}:
            table.append(result)
    return table


def nearest(
    config: RunConfig,
    topology: Topology,
    compiling: bool,
    rows: int | None = None,
) -> Report | None:
    """The fitting case that differs least from one that does not fit.

    First on the same slice, by the number of settings that change and then by the bound;
    then on the next larger slices.

    Args:
      config: the run.
      topology: that it does not fit.
      compiling: compile the case to be sure of it.
      rows: of a packed batch.

    Returns:
      As `inspect`, with `changed`: macros and their values; None where nothing fits.
    """
    current: Mapping[str, object] = settings(config)
    slices = [topology]
    for _ in range(_DOUBLINGS):
        slices.append(slices[-1].larger())
    for slice_topology in slices:
        fitting: list[tuple[tuple[int, float, int], RunConfig, Report, dict[str, object]]] = []
        for result, candidate, _ in ranked(config, [slice_topology], rows):
            changed = {k: v for k, v in settings(candidate).items() if current[k] != v}
            free = (1 - _MARGIN) * result["hbm_bytes_per_chip"] - result["peak_bytes_per_chip"]
            if free >= 0 and (changed or slice_topology is not topology):
                seconds = result["step_seconds_bound"]
                rank = len(changed), seconds, len(fitting)
                fitting.append((rank, candidate, result, changed))
        for _, candidate, result, changed in sorted(fitting, key=lambda f: f[0])[:_TRIES]:
            if compiling:
                result = inspect(candidate, slice_topology, True, rows)
            if result["fits"]:
                return {**result, "changed": changed}
    return None
