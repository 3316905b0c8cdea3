"""`python training/coreml/converter.py`, as the specification writes it, is `python coreml/converter.py`."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[2] / "coreml/converter.py"), run_name="__main__")
