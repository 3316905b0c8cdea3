"""Puts the repository's root, and not this folder, on the import path of a command that was started as a file.

`python deferred/train.py` would look for modules in deferred/ first, where train.py and dataset are others than the
root's. Commands therefore begin with `if not __package__: import rooted`; imports after it are the same in both
forms.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != _HERE)]
