"""Flags that are derived from dataclasses: types, defaults, help, bounds."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

from distill.common.flags import add_flags, check_bounds, flag, from_options
from distill.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Limits:
    count: int = flag(3, "how many", least=1)
    seconds: float = flag(0.5, "100% of a wait", name="wait_seconds", metavar="S", above=0)
    share: float = flag(0.0, "of all", least=0, most=1)
    bound: float | None = flag(None, "at most")
    inner: float = 7.0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True)
class _All:
    limits: _Limits = dataclasses.field(metadata={"title": "bounds"})
    names: tuple[str, ...] = flag((), "repeatable")
    kind: str = flag("a", "one of two", choices=("a", "b"))
    quiet: bool = flag(False, "say less")


def _parse(*argv: str) -> _All:
    parser = argparse.ArgumentParser()
    add_flags(parser, _All)
    return from_options(_All, parser.parse_args(argv))


def test_without_flags_it_is_the_dataclass_with_its_defaults():
    assert _parse() == _All(_Limits())


def test_values_have_the_types_of_their_fields():
    argv = ("--count=4", "--wait_seconds=2", "--bound=1e3", "--names=x", "--names=y", "--kind=b")
    assert _parse(*argv, "--quiet") == _All(
        _Limits(count=4, seconds=2.0, bound=1000.0), names=("x", "y"), kind="b", quiet=True
    )
    assert isinstance(_parse(*argv).limits.seconds, float)


def test_the_help_shows_groups_and_defaults():
    parser = argparse.ArgumentParser()
    add_flags(parser, _All)
    text = " ".join(parser.format_help().split())
    assert "bounds: --count COUNT how many (default: 3)" in text
    assert "--wait_seconds S 100% of a wait (default: 0.5)" in text
    assert "of all (default: 0) --bound BOUND at most" in text
    assert "--kind {a,b} one of two (default: a) --quiet say less" in text
    assert "inner" not in text


@pytest.mark.parametrize("argv", ["--count=x", "--kind=c", "--inner=3"])
def test_what_argparse_refuses_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        _parse(argv)
    assert stopped.value.code == 2 and argv.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--count=0", r"got --count 0, expected at least 1"),
        ("--wait_seconds=0", r"got --wait_seconds 0\.0, expected more than 0"),
        ("--wait_seconds=inf", r"got --wait_seconds inf, expected more than 0"),
        ("--wait_seconds=nan", r"got --wait_seconds nan, expected more than 0"),
        ("--share=1.5", r"got --share 1\.5, expected between 0 and 1"),
        ("--share=nan", r"got --share nan, expected between 0 and 1"),
    ],
)
def test_numbers_out_of_bounds_name_their_flag(argv, message):
    with pytest.raises(UserError, match=message):
        _parse(argv)
