"""`python training/coreml/run_inference.py` is `python coreml/run_inference.py`: the specification writes it so."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
sys.path[0] = str(HERE)
runpy.run_path(str(HERE / "coreml/run_inference.py"), run_name="__main__")
