"""`python training/coreml/run_inference.py`, as the specification writes it, is `python coreml/run_inference.py`."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[2] / "coreml/run_inference.py"), run_name="__main__")
