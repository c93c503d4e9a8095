"""Another package called `tasks` is not taken for the one that registers the datasets."""

import os
import subprocess
import sys


def test_another_package_of_that_name_is_named(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("NOT_OURS = True\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = "import sys; from distill import cli; sys.exit(cli.main(sys.argv[1:]))"
    arguments = ["train", "--gin_file=tickets_step_by_step", f"--run_dir={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    message = f"the package 'tasks' at {tmp_path}/tasks/__init__.py is not distill's own"
    assert message in done.stderr and "Traceback" not in done.stderr
