"""The process of the command `distill`, which is also `python -m distill`."""

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Runs the command, and ends the process with its exit code; see `distill.cli.main`."""
    try:
        from distill.cli import run_process
    except KeyboardInterrupt:  # Ctrl-C right after the start
        print("distill: interrupted", file=sys.stderr)
        sys.exit(130)
    run_process()


if __name__ == "__main__":
    run()
