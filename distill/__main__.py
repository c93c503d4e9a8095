"""`python -m distill` is the command `distill`."""

import sys

from distill.cli import main

if __name__ == "__main__":
    sys.exit(main())
