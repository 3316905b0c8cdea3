"""Translate f2.slang into generated/, one file per language.

    python translate_shader.py [--slangc PATH] [--check]        (inside lightmap/)
    python -m lightmap.translate_shader                         (in the repository's root)

Only whoever changes f2.slang needs this; see shaders/generate.py, which does the same for materials.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import functools
from collections.abc import Sequence

from shaders.generate import TARGETS, translate_source, write_or_check

SOURCE = Path(__file__).resolve().parent / "f2.slang"
GENERATED = SOURCE.parent / "generated"


def translated(target: str, slangc: Path) -> str:
    """f2.slang translated by slangc into one language. Raises: RuntimeError."""
    return translate_source(slangc, SOURCE, target)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    files = {GENERATED / f"f2.{target}": functools.partial(translated, target) for target in TARGETS}
    return write_or_check(argv, "Translate lightmap/f2.slang.", files)


if __name__ == "__main__":
    sys.exit(main())
