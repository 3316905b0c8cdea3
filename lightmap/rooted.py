"""Puts the repository's root, and not this folder, on the import path of a command that was started as a file.

`python lightmap/train.py` would look for modules in lightmap/ first, where train.py is another one than the root's.
Commands therefore begin with `if not __package__: import rooted`, and all imports after it are the same in both forms.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != _HERE)]
