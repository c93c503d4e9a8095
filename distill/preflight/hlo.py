"""Reads an optimized XLA program: memory traffic and collectives, loops counted as they run.

The program is one device's share (SPMD). Every instruction of a loop's body counts as often
as the loop runs: XLA writes it beside the loop, or it follows from limit and step of its counter.
Traffic is that of XLA's own cost analysis: operands and results of each instruction that is not
inside a fusion, of which slices count what they read and updates in place what they write;
arrays that the compiler put into a chip's fast memory (memory space S(1) and others) do not count.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

_SHAPE = re.compile(r"\b([a-z]+\d+[a-z0-9]*|pred)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(calls|body|condition|to_apply|branch_computations)=(\{[^}]*\}|%[\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
_INDEX = re.compile(r"\bindex=(\d+)")
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
# Instructions that move nothing: names for what is there, or bodies that are counted themselves.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"),
    *("conditional", "call", "partition-id", "replica-id", "optimization-barrier", "domain"),
    *("async-start", "async-update", "async-done", "add-dependency"),
}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: name, type and attributes as written, operation, operands' names."""

    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def called(self) -> dict[str, list[str]]:
        """Computations that it calls, by the way it does."""
        return {way: _NAME.findall(names) for way, names in _CALLED.findall(self.attributes)}


@dataclasses.dataclass(frozen=True)
class Collective:
    """All runs of one collective instruction in a step.

    Attributes:
      kind: one of COLLECTIVES.
      axis: of the mesh, "data", "model" or "data+model".
      count: times it runs.
      bytes: that a device sends in all of them, on a ring.
    """

    kind: str
    axis: str
    count: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class HloModule:
    """Computations by name, each a dict of instructions by name; `entry` names the first."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def runs(self) -> Iterator[tuple[dict[str, Instruction], Instruction, int]]:
        """Each instruction outside fusions with its computation and how often it runs."""
        return self._runs(self.entry, 1)

    def _runs(self, name: str, times: int) -> Iterator[tuple[dict, Instruction, int]]:
        body = self.computations.get(name, {})
        for instruction in body.values():
            yield body, instruction, times
            called = instruction.called
            if instruction.op == "while":
                inner = times * self._trips(instruction)
                for computation in called.get("body", []):
                    yield from self._runs(computation, inner)
            elif instruction.op in ("call", "conditional", "async-start"):
                for names in called.values():
                    for computation in names:
                        yield from self._runs(computation, times)

    def _trips(self, loop: Instruction) -> int:
        known = _TRIPS.search(loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations.get(loop.called.get("condition", [""])[0], {})
        whole = [i for i in condition.values() if i.op == "constant" and i.operands]
        limits = [int(i.operands[0]) for i in whole if i.type.startswith(("s32[]", "u32[]"))]
        return -(-max(limits, default=1) // self._stride(loop, condition))

    def _stride(self, loop: Instruction, condition: dict[str, Instruction]) -> int:
        """What a loop's counter grows by: 2 where the compiler put two rounds into a body."""
        compare = next((i for i in condition.values() if i.op == "compare"), None)
        counter = condition.get(compare.operands[0]) if compare else None
        place = counter and _INDEX.search(counter.attributes)
        body = self.computations.get(loop.called.get("body", [""])[0], {})
        root = next((i for i in body.values() if i.attributes.startswith("ROOT")), None)
        grown = body.get(root.operands[int(place[1])]) if place and root else None
        added = [body[n] for n in grown.operands if n in body] if grown else []
        is_sum = grown is not None and grown.op == "add"
        steps = [int(i.operands[0]) for i in added if i.op == "constant" and is_sum]
        return max(steps, default=1)


def parse_hlo(text: str) -> HloModule:
    """Reads the text of a compiled program."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, body = "", dict[str, Instruction]()
    for line in text.splitlines():
        if line and not line.startswith((" ", "}", "HloModule")):
            header = _HEADER.match(line)
            if header:
                body = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
            continue
        instruction = _instruction(line)
        if instruction:
            body[instruction.name] = instruction
    return HloModule(computations, entry)


def _instruction(line: str) -> Instruction | None:
    left, equals, right = line.strip().partition(" = ")
    if not equals or not left.removeprefix("ROOT ").startswith("%"):
        return None
    end = _closing(right, 0) if right.startswith("(") else right.find(" ")
    kind, rest = right[:end], right[end:].lstrip()
    opening = rest.find("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    op = rest[:opening]
    # A constant's value and a parameter's number stand where operands do.
    operands = tuple(_NAME.findall(inside)) or ((inside,) if inside.isdigit() else ())
    name = left.removeprefix("ROOT ").removeprefix("%")
    root = "ROOT " if left.startswith("ROOT ") else ""
    return Instruction(name, kind, op, operands, root + rest[closing:])


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return len(text)


def type_bytes(text: str, everywhere: bool = False) -> float:
    """Bytes of a type, or tuple of types, that lies in main memory (or `everywhere`)."""
    total = 0.0
    for dtype, sides, layout in _SHAPE.findall(text):
        if everywhere or not re.search(r"S\([1-9]", layout):
            total += _size(dtype) * math.prod(int(side) for side in sides.split(",") if side)
    return total


def _size(dtype: str) -> float:
    """Bytes of an element: a name such as bf16 has its bits; `pred` takes one byte."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 1


def traffic(program: HloModule) -> float:
    """Bytes of main memory that a device reads and writes in a run of the program."""
    return sum(
        times * _moved(program, body, instruction) for body, instruction, times in program.runs()
    )


def _moved(program: HloModule, body: dict[str, Instruction], node: Instruction) -> float:
    if node.op in _FREE or node.op.endswith("-done") or "AllocateBuffer" in node.attributes:
        return 0.0
    types = [body[name].type if name in body else "" for name in node.operands]
    if node.op.endswith("-start"):
        # A tuple of destination, source and context: the destination, and what is read.
        first = _SHAPE.search(node.type)
        return sum(map(type_bytes, types)) + (type_bytes(first[0]) if first else 0.0)
    if node.op in ("dynamic-slice", "slice", "gather"):
        return 2 * type_bytes(node.type)
    if node.op == "dynamic-update-slice":
        return 2 * type_bytes(types[1])
    if node.op == "fusion":
        called = program.computations.get(node.called.get("calls", [""])[0], {})
        return _fusion(program, node, types, called)
    return type_bytes(node.type) + sum(map(type_bytes, types))


def _fusion(
    program: HloModule, node: Instruction, types: Sequence[str], inner: dict[str, Instruction]
) -> float:
    """What a fusion reads and writes: of operands that it only slices, the slices."""
    total = sum(_read(program, inner, i, kind) for i, kind in enumerate(types))
    # A step of an asynchronous collective hands its buffers on; they are not written here.
    passed = {
        shape
        for step in inner.values()
        if step.op in COLLECTIVES
        for text in (step.type, *(inner[n].type for n in step.operands if n in inner))
        for shape in _plain(text)
    }
    written = 0.0
    for match in _SHAPE.finditer(node.type):
        if not passed.intersection(_plain(match[0])):
            written += type_bytes(match[0])
    for update in inner.values():
        if update.op == "dynamic-update-slice":
            whole = type_bytes(update.type, everywhere=True)
            part = inner.get(update.operands[1])
            if part and whole <= written:
                written += type_bytes(part.type, everywhere=True) - whole
    return total + written


def _plain(text: str) -> list[str]:
    """Shapes without their layouts."""
    return [f"{dtype}[{sides}]" for dtype, sides, _ in _SHAPE.findall(text)]


def _read(program: HloModule, inner: dict[str, Instruction], number: int, kind: str) -> float:
    """Bytes that a fused computation reads of its parameter `number`, of type `kind`."""
    whole = type_bytes(kind)
    parameter = next(
        (i for i in inner.values() if i.op == "parameter" and i.operands == (str(number),)), None
    )
    if not whole or parameter is None:
        return whole
    total, names = 0.0, [parameter.name]
    while names:
        name = names.pop()
        for use in inner.values():
            if name not in use.operands or use.op in ("parameter", "constant"):
                continue
            if use.op in ("dynamic-slice", "slice", "gather") and use.operands[0] == name:
                total += type_bytes(use.type, everywhere=True)
            elif use.op == "bitcast":
                names.append(use.name)
            elif use.op == "fusion":
                called = program.computations.get(use.called.get("calls", [""])[0], {})
                total += _read(program, called, use.operands.index(name), kind)
            elif not (
                use.op in ("custom-call", "tuple", *COLLECTIVES)
                or (use.op == "dynamic-update-slice" and use.operands[0] == name)
            ):
                return whole
    return min(total, whole)


def collectives(program: HloModule, mesh_shape: tuple[int, int]) -> list[Collective]:
    """The collectives of a run of the program, alike ones added up, largest first.

    Args:
      program: of one device.
      mesh_shape: data, model.
    """
    totals: dict[tuple[str, str], list[float]] = {}
    seen: set[tuple] = set()
    for body, instruction, times in program.runs():
        for inner, node in _with_fused(program, body, instruction):
            kind = node.op.removesuffix("-start")
            if kind not in COLLECTIVES or node.op.endswith("-done"):
                continue
            # TPUs scatter sums by a fusion of an all-reduce and a slice.
            if kind == "all-reduce" and "all-reduce-scatter" in instruction.attributes:
                kind = "reduce-scatter"
            axis, size = _group(node.attributes, mesh_shape)
            if size < 2:
                continue
            whole = sum(
                type_bytes(inner[name].type, everywhere=True)
                for name in node.operands
                if name in inner
            )
            if inner is not body:
                # The steps of an asynchronous collective are fusions that all name it.
                channel = re.search(r"channel_id=(\d+)", node.attributes)
                key = (id(body), kind, channel and channel[1], whole)
                if key in seen and "chain_id" in node.attributes:
                    continue
                seen.add(key)
            share = (size - 1) / size
            sent = {"all-reduce": 2 * share, "all-gather": size - 1, "collective-permute": 1}
            entry = totals.setdefault((kind, axis), [0, 0.0])
            entry[0] += times
            entry[1] += times * whole * sent.get(kind, share)
    every = [Collective(kind, axis, int(n), b) for (kind, axis), (n, b) in totals.items()]
    return sorted(every, key=lambda c: -c.bytes)


def _with_fused(
    program: HloModule, body: dict[str, Instruction], instruction: Instruction
) -> Iterator[tuple[dict[str, Instruction], Instruction]]:
    yield body, instruction
    if instruction.op == "fusion":
        for name in instruction.called.get("calls", []):
            inner = program.computations.get(name, {})
            for fused in inner.values():
                yield from _with_fused(program, inner, fused)


def _group(attributes: str, mesh_shape: tuple[int, int]) -> tuple[str, int]:
    """Mesh axes along which a collective's first group lies, and its size."""
    members = first_group(attributes, math.prod(mesh_shape))
    data = {member // mesh_shape[1] for member in members}
    model = {member % mesh_shape[1] for member in members}
    axes = [name for name, places in (("data", data), ("model", model)) if len(places) > 1]
    return "+".join(axes), len(members)


def first_group(attributes: str, devices: int) -> list[int]:
    """Devices of the first group, in the four ways that XLA writes groups in."""
    pairs = re.search(r"source_target_pairs=\{(\{.*?\})\}", attributes)
    if pairs:
        every = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs[1])]
        return next(([a, b] for a, b in every if a != b), [0])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return [int(member) for member in listed[1].split(",")]
    named = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes)
    if named:
        return _named_group(named[1], named[2])
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if iota is None:
        return list(range(devices))
    import numpy as np

    groups, sides = ([int(n) for n in iota[i].split(",")] for i in (1, 2))
    order = [int(n) for n in iota[3].split(",")] if iota[3] else list(range(len(sides)))
    ids = np.arange(math.prod(sides)).reshape(sides).transpose(order).reshape(groups)
    return ids.reshape(-1, groups[-1])[0].tolist()


def _named_group(mesh: str, along: str) -> list[int]:
    """The first group of `mesh['a'=2,'b'=4] {'b'}`: device ids along the named axes."""
    sides = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    strides, stride = {}, 1
    for name in reversed(sides):
        strides[name], stride = stride, stride * sides[name]
    members = [0]
    for name in re.findall(r"'([^']+)'", along):
        members = [m + i * strides[name] for m in members for i in range(sides[name])]
    return members
