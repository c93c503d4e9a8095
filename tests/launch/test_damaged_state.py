"""A state file that is damaged, or is none, ends in one message."""

from __future__ import annotations

import json

import pytest

from distill.errors import UserError
from distill.launch import state

WHOLE = {
    "version": state._VERSION,
    "settings": {},
    "phase": "planned",
    "created": [],
    "started": None,
    "restarts": 0,
    "history": [],
    "revision": 0,
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not the state file of a launch"),
        (b"[" * 99_999, "nested too deeply"),
        (b"\xff", "is not the state file of a launch"),
        (b"[1]", "is not a state file of this version"),
        (json.dumps(WHOLE | {"version": 0}).encode(), "is not a state file of this version"),
        (json.dumps(WHOLE | {"settings": 3}).encode(), "`settings` has a value of another kind"),
        (json.dumps(WHOLE | {"restarts": "x"}).encode(), "`restarts` has a value of another kind"),
        (json.dumps(WHOLE | {"started": 5}).encode(), "`started` has a value of another kind"),
        (json.dumps(WHOLE).encode()[:-9], "is not the state file of a launch"),
    ],
)
def test_damage_is_named(content, message, tmp_path):
    path = tmp_path / "a.launch.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as found:
        state.load(str(path))
    assert str(path) in str(found.value)
