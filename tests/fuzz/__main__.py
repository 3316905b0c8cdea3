"""python -m tests.fuzz: run.py. Processes that a package's __main__ starts do not find the functions in it."""

from __future__ import annotations

import sys

from tests.fuzz.run import main

if __name__ == "__main__":
    sys.exit(main())
