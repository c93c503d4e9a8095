#!/usr/bin/env -S python3 -IS
"""Stands for gcloud, kubectl, xpk and sky: records its arguments, and answers by a script.

$STUB_DIR/calls.jsonl gets a line with the arguments of each call. $STUB_DIR/script.json is a list
of rules; the first with all of `match` (texts) in the joined arguments, and `times` left, answers
with `stdout`, `stderr`, `exit`. Rules without `times` answer always. Without a rule the call
succeeds and says nothing.
"""

import fcntl
import json
import os
import pathlib
import sys

folder = pathlib.Path(os.environ["STUB_DIR"])
argv = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
joined = " ".join(argv)
with open(folder / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(folder / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(argv) + "\n")
    path = folder / "script.json"
    rules = json.loads(path.read_text()) if path.exists() else []
    rule = next(
        (
            each
            for each in rules
            if all(text in joined for text in each["match"]) and each.get("times", 1) > 0
        ),
        {},
    )
    if "times" in rule:
        rule["times"] -= 1
        path.write_text(json.dumps(rules))
sys.stdout.write(rule.get("stdout", ""))
sys.stderr.write(rule.get("stderr", ""))
sys.exit(rule.get("exit", 0))
