"""`python -m distill` is the command `distill`."""

from distill.cli import run_process

if __name__ == "__main__":
    run_process()
