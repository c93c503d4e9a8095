"""Tables of benchmarks/speed.py, from its JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from distill.common.table import render_columns

REFERENCE = "native flat"
GIB, MIB = 2**30, 2**20


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and in brackets the least and the most.

    Of 5 values the two enclose the true median with probability 0.94, of 6 with 0.97.
    """
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(
    rounds: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]], kind: str
) -> list[float]:
    """Of each round an engine's seconds by those of the reference."""
    return [own[kind] / other[kind] for own, other in zip(rounds, reference, strict=False)]


def best_bound(result: Mapping) -> float:
    """The bound: the median over rounds of the faster library's products."""
    rounds = result["bounds"]
    libraries = {name for one in rounds for name in one}
    return max(statistics.median(one[name] for one in rounds if name in one) for name in libraries)


def training(result: Mapping, settings: Mapping) -> str:
    """Speed of the training steps."""
    rounds, work = result["rounds"], settings["work"]
    bound, pairs = best_bound(result), settings["batch_size"]
    tokens = work["encoder_tokens"] + work["decoder_tokens"]
    header = (
        *("training", "s/step", "pairs/s", "tokens/s", "GFLOP/s", "of bound"),
        *("times native flat", "CPU s/step", "times native flat, CPU"),
    )
    rows = []
    for name, of_rounds in rounds.items():
        wall = statistics.median(one["wall"] for one in of_rounds)
        flops = work["useful_flops"] / wall
        row = (
            name,
            spread([one["wall"] for one in of_rounds], 3),
            f"{pairs / wall:.1f}",
            f"{tokens / wall:,.0f}",
            f"{flops / 1e9:.1f}",
            f"{flops / bound:.0%}",
            spread(ratios(of_rounds, rounds[REFERENCE], "wall")) if REFERENCE in rounds else "",
            spread([one["cpu"] for one in of_rounds], 3),
            spread(ratios(of_rounds, rounds[REFERENCE], "cpu")) if REFERENCE in rounds else "",
        )
        rows.append(row)
    bounds = ", ".join(
        f"{library} {spread([one[library] / 1e9 for one in result['bounds'] if library in one], 0)}"
        for library in result["bounds"][0]
    )
    note = f"float32 matrix product, GFLOP/s: {bounds}"
    return f"{render_columns(header, rows, '<' + '>' * 8)}\n{note}"


def costs(result: Mapping, settings: Mapping) -> str:
    """What the engines' processes need besides time of steps."""
    work = settings["work"]
    header = ("process", "imports", "data", "compile", "first step")
    header += ("peak GiB", "temporaries MiB", "padding, encoder / decoder")
    rows = []
    for name, hello in result["hello"].items():
        seconds = hello["seconds"]
        cells = [name]
        for part in header[1:5]:
            cells.append(f"{seconds[part]:.1f}" if part in seconds else "")
        peak = max(one["peak_bytes"] for one in result["rounds"].get(name, []) or [hello])
        temporary = hello.get("temporary_bytes")
        cells += [f"{peak / GIB:.2f}", f"{temporary / MIB:,.0f}" if temporary else ""]
        padding = [
            1 - work[f"{side}_tokens"] / hello[f"{side}_positions"]
            for side in ("encoder", "decoder")
        ]
        cells.append(" / ".join(f"{share:.1%}" for share in padding))
        rows.append(tuple(cells))
    return render_columns(header, rows, "<" + ">" * 7)


def inference(result: Mapping, count: int) -> str:
    """Rows a second of all engines."""
    header = ("answers", "batch", "rows/s", "times native")
    header += ("CPU ms/row", "times native, CPU", "same tokens")
    rows = []
    for batch, of_batch in result["rounds"].items():
        native = of_batch.get("native", [])
        for name, of_rounds in of_batch.items():
            if not of_rounds:
                continue
            same = result["equal"].get(batch, {}).get(name)
            row = (
                name.replace("native decode", "native, texts").replace("_ranked", " and ranking"),
                batch,
                spread([count / one["wall"] for one in of_rounds], 1),
                spread(ratios(of_rounds, native, "wall")) if native else "",
                f"{1000 * statistics.median(one['cpu'] for one in of_rounds) / count:.1f}",
                spread(ratios(of_rounds, native, "cpu")) if native else "",
                "" if same is None else f"{same} of {count}",
            )
            rows.append(row)
    return render_columns(header, rows, "<>>>>>>")


def pipeline(result: Mapping, settings: Mapping) -> str:
    """The input pipeline alone."""
    rows = []
    for name, of_rounds in result.items():
        seconds = [one["cpu"] / one["batches"] for one in of_rounds]
        pairs = settings["batch_size"] / statistics.median(seconds)
        rows.append((name, spread([1000 * one for one in seconds]), f"{pairs:,.0f}"))
    return render_columns(("input pipeline", "CPU ms/batch", "pairs/s"), rows, "<>>")


def start(result: Mapping) -> str:
    """Start-up times: the first run, and the median of those after it."""
    rows = []
    for name, runs in result.items():
        later = runs[1:] or runs
        error = "".join(runs[-1].get("error", []))
        rows.append(
            (
                name,
                f"{runs[0]['wall']:.2f}",
                f"{statistics.median(one['wall'] for one in later):.2f}",
                f"{statistics.median(one['cpu'] for one in later):.2f}",
                error,
            )
        )
    header = ("start", "first run, s", "later runs, s", "CPU s", "")
    return render_columns(header, rows, "<>>>")


def curves(result: Mapping) -> str:
    """Pairs a second for each value of each macro that was varied."""
    names = list(dict.fromkeys(name for one in result["points"] for name in one["rounds"]))
    header = ("setting", "bound, GFLOP/s", *(f"{name}, pairs/s" for name in names), "of bound")
    rows = []
    for one in result["points"]:
        bound, pairs = best_bound(one), one["settings"]["batch_size"]
        walls = {
            name: statistics.median(each["wall"] for each in one["rounds"][name])
            for name in one["rounds"]
        }
        flops = one["settings"]["work"]["useful_flops"]
        share = f"{flops / walls[REFERENCE] / bound:.0%}" if REFERENCE in walls else ""
        speeds = [f"{pairs / walls[name]:.1f}" if name in walls else "" for name in names]
        rows.append((one["setting"], f"{bound / 1e9:.0f}", *speeds, share))
    return render_columns(header, rows, "<" + ">" * (len(names) + 2))


def render(result: Mapping) -> str:
    """All tables of a result."""
    parts = []
    if "train" in result:
        parts += [training(result["train"], result["settings"])]
        parts += [costs(result["train"], result["settings"])]
        parts += [pipeline(result["pipeline"], result["settings"])]
    if "infer" in result:
        parts.append(inference(result["infer"], result["settings"]["rows"]))
    if "start" in result:
        parts.append(start(result["start"]))
    if result.get("curves"):
        parts.append(curves(result["curves"]))
    parts += [f"left out: {line}" for line in result["left_out"]]
    return "\n\n".join(parts)
