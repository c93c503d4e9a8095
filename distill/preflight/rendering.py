"""The text of a preflight report: for one run, and the table of a search."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from distill.common import table
from distill.preflight.chips import GIB
from distill.preflight.report import BytesPerChip, Report


def render_report(result: Report) -> str:
    """The object as text for people."""
    if "table" in result:
        return render_table(result["table"])
    guess = " (estimate)" if result["estimate"] else ""
    moved = "" if result["traffic_and_collectives"] == "compiled" else " (estimate)"
    peak, hbm = result["peak_bytes_per_chip"], result["hbm_bytes_per_chip"]
    batch, mesh = result["batch"], result["mesh"]
    lines = [
        f"{result['topology']}: {result['chips']} chips, {result['devices']} devices, mesh data "
        f"{mesh['data']} x model {mesh['model']}",
        "  ".join(f"{name} {value}" for name, value in result["settings"].items()),
        f"batch: {batch['rows']} {result['layout']} rows of {batch['inputs']} / "
        f"{batch['targets']} tokens",
        "",
        f"{'FITS' if result['fits'] else 'DOES NOT FIT'}{guess}: {_gib(peak)} of {_gib(hbm)} GiB "
        "per chip",
        textwrap.indent(_memory(result["bytes_per_chip"]), "  "),
        "",
        f"per step and chip: {result['flops_per_chip'] / 1e12:.3g} TFLOP in matrix products "
        f"({result['useful_flops_per_chip'] / 1e12:.3g} without recomputation)",
        f"  memory traffic {result['hbm_traffic_per_chip'] / 1e9:.3g} GB{moved}",
        *_collectives(result["collectives"], moved),
        f"at least {result['step_seconds_bound']:.3g} s per step, bound by {result['bound_by']} ("
        + ", ".join(f"{name} {value:.3g}" for name, value in result["seconds_by"].items())
        + ")",
        f"at most {result['tokens_per_second']:,.0f} tokens/s; the run takes at least "
        f"{result['hours']:.3g} hours"
        + (f" and costs at least {result['cost']:,.2f}" if result["cost"] is not None else ""),
    ]
    if result["compile_seconds"] is not None:
        lines.append(
            f"compiled in {result['compile_seconds']:.0f} s "
            f"({result['compile_cpu_seconds']:.0f} CPU seconds)"
        )
    if "decoding" in result:
        decoding = result["decoding"]
        verdict = "fits" if decoding["fits"] else "does not fit"
        lines.append(
            f"decoding of {decoding['rows']} labels {verdict}: "
            f"{_gib(decoding['peak_bytes_per_chip'])} GiB per chip (compiled in "
            f"{decoding['compile_seconds']:.0f} s)"
        )
    if not result["fits"]:
        lines.append(suggest(result))
    return "\n".join(lines)


def _memory(bytes_of: BytesPerChip) -> str:
    rows = [
        ("parameters", f"{_gib(bytes_of['parameters'])} GiB"),
        ("optimizer", f"{_gib(bytes_of['optimizer'])} GiB"),
    ]
    if bytes_of["temporaries_estimate"] is not None:
        temporaries = f"{_gib(bytes_of['temporaries_estimate'])} GiB (estimate)"
        rows.append(("temporaries", temporaries))
    return table.render_columns((), rows)


def _collectives(collectives: Sequence[dict[str, Any]], moved: str) -> list[str]:
    rows = [
        (one["kind"], one["axis"], f"{one['count']} times", f"{one['bytes'] / 1e9:.3g} GB{moved}")
        for one in collectives
    ]
    return textwrap.indent(table.render_columns((), rows, "<<>>"), "  ").splitlines()


def suggest(result: Report) -> str:
    """What to do about a run that does not fit: the nearest case that does, in one line."""
    nearest = result.get("nearest")
    if not nearest:
        where = "no row of the table" if "table" in result else "no nearby configuration"
        return f"{where} fits: use a smaller size, BATCH_SIZE or INPUT_LENGTH"
    how = "estimate" if nearest["estimate"] else "compiled"
    changes = "".join(f" --gin.{name}={value}" for name, value in nearest["changed"].items())
    return (
        f"the nearest configuration that fits ({how}): --topology={nearest['topology']}{changes}, "
        f"{_gib(nearest['peak_bytes_per_chip'])} GiB per chip"
    )


def render_table(rows: Sequence[Report]) -> str:
    """The table of a search."""
    header = (
        *("topology", "model", "sharding", "parts", "remat"),
        *("GiB/chip", "s/step", "bound by", "hours", "cost", "fits"),
    )
    return table.render_columns(header, [_cells(row) for row in rows], "<><><>><>>")


def _cells(row: Report) -> tuple[str, ...]:
    macros = row["settings"]
    return (
        row["topology"],
        str(macros["MODEL_PARALLEL"]),
        macros["PARAMETER_SHARDING"],
        str(macros["MICROBATCHES"]),
        macros["REMAT"],
        _gib(row["peak_bytes_per_chip"]),
        f"{row['step_seconds_bound']:.3g}",
        row["bound_by"],
        f"{row['hours']:.3g}",
        "" if row["cost"] is None else f"{row['cost']:,.2f}",
        ("yes" if row["fits"] else "no") + (" (estimate)" if row["estimate"] else ""),
    )


def _gib(number: float) -> str:
    return f"{number / GIB:.2f}" if number >= GIB / 10 else f"{number / GIB:.2g}"
