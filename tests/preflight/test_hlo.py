"""Programs written down here: what they move and send, loops counted."""

import pytest

from distill.preflight import hlo

TEXT = """HloModule jit_step, is_scheduled=true

%body (arg: (s32[], f32[4,256])) -> (s32[], f32[4,256]) {
  %arg = (s32[], f32[4,256]{1,0}) parameter(0)
  %one = f32[4,256]{1,0:T(8,128)} get-tuple-element(%arg), index=1
  %sum = f32[4,256]{1,0:T(8,128)} all-reduce(%one), channel_id=1, GROUPS, to_apply=%add
  %fast = f32[4,256]{1,0:T(8,128)S(1)} copy(%sum)
  %index = s32[] get-tuple-element(%arg), index=0
  %step = s32[] constant(STEP)
  %next = s32[] add(%index, %step)
  ROOT %out = (s32[], f32[4,256]{1,0}) tuple(%next, %sum)
}

%condition (arg.1: (s32[], f32[4,256])) -> pred[] {
  %arg.1 = (s32[], f32[4,256]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg.1), index=0
  %limit = s32[]{:T(128)} constant(24)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%sliced (param_0.1: f32[24,4,256], param_1.1: s32[]) -> f32[4,256] {
  %param_1.1 = s32[] parameter(1)
  %param_0.1 = f32[24,4,256]{2,1,0} parameter(0)
  %zero = s32[] constant(0)
  %cut = f32[1,4,256]{2,1,0} dynamic-slice(%param_0.1, %param_1.1, %zero, %zero)
  ROOT %flat = f32[4,256]{1,0} bitcast(%cut)
}

ENTRY %main (p: f32[24,4,256], i: s32[]) -> f32[4,256] {
  %p = f32[24,4,256]{2,1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %first = f32[4,256]{1,0} fusion(%p, %i.1), kind=kLoop, calls=%sliced
  %start = (s32[], f32[4,256]{1,0}) tuple(%i.1, %first)
  %loop = (s32[], f32[4,256]{1,0}) while(%start), condition=%condition, body=%bodyTRIPS
  ROOT %end = f32[4,256]{1,0} get-tuple-element(%loop), index=1
}
"""
BYTES = 4 * 256 * 4


def _program(groups="replica_groups={{0,1,2,3}}", trips="", step=1):
    text = TEXT.replace("GROUPS", groups).replace("TRIPS", trips).replace("STEP", str(step))
    return hlo.parse_hlo(text)


@pytest.mark.parametrize(
    ("trips", "step", "times"),
    [("", 1, 24), ("", 2, 12), (', backend_config={"known_trip_count":{"n":"7"}}', 1, 7)],
    ids=["condition", "two rounds in a body", "known"],
)
def test_loops_are_counted(trips, step, times):
    program = _program(trips=trips, step=step)
    (sent,) = hlo.collectives(program, (4, 1))
    assert (sent.kind, sent.axis, sent.count) == ("all-reduce", "data", times)
    assert sent.bytes == times * 2 * 3 / 4 * BYTES
    # The slice is read and written, and a word read; then each turn has the sum, in and out, and
    # the copy to fast memory, in alone, and three words of its counter.
    assert hlo.traffic(program) == 2 * BYTES + 4 + times * (3 * BYTES + 12)


@pytest.mark.parametrize(
    ("groups", "axis", "size"),
    [
        ("replica_groups={{0,1},{2,3}}", "model", 2),
        ("replica_groups={{0,2},{1,3}}", "data", 2),
        ("replica_groups=[2,2]<=[4]", "model", 2),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", "data", 2),
        ("replica_groups=mesh['data'=2,'model'=2] {'data'}", "data", 2),
        ("replica_groups=mesh['data'=2,'model'=2] {'data','model'}", "data+model", 4),
        ("replica_groups={}", "data+model", 4),
    ],
)
def test_groups_lie_along_axes(groups, axis, size):
    (sent,) = hlo.collectives(_program(groups), (2, 2))
    assert sent.axis == axis
    assert sent.bytes == pytest.approx(24 * 2 * (size - 1) / size * BYTES)


def test_permutations_lie_along_the_axis_that_changes():
    pairs = "source_target_pairs={{0,0},{1,3},{3,1}}"
    assert hlo.first_group(pairs, 4) == [1, 3]


def test_types_count_main_memory_alone():
    assert hlo.type_bytes("bf16[8,128]{1,0:T(8,128)(2,1)}") == 2048
    assert hlo.type_bytes("(f32[2]{0}, s32[2]{0:T(128)S(1)}, pred[])") == 9
    assert hlo.type_bytes("f32[2]{0:S(1)}", everywhere=True) == 8
