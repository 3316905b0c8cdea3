"""`python training/coreml/converter.py` is `python coreml/converter.py`: the specification writes it so."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
sys.path[0] = str(HERE)
runpy.run_path(str(HERE / "coreml/converter.py"), run_name="__main__")
