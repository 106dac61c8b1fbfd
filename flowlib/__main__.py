"""`python -m flowlib` is the command `flowlib`."""

import sys

from flowlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
