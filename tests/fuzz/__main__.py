"""python -m tests.fuzz. The tool is run.py: processes that it starts do not find functions of a __main__ of a package."""

from __future__ import annotations

import sys

from tests.fuzz.run import main

if __name__ == "__main__":
    sys.exit(main())
