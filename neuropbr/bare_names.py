"""The bare names of scripts inside neuropbr/: `import utils.dataset` there is the module neuropbr.utils.dataset.

A module that such a script may import first calls `alias`. Nothing is found by a bare name from another folder, and
modules of this folder import each other as neuropbr.<name>.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "neuropbr."


def alias(name: str) -> None:
    """Make `name`, a module of this folder that is being imported, another name of neuropbr.<name>."""
    root = str(Path(__file__).resolve().parents[1])
    if root not in sys.path:
        sys.path.append(root)  # at the end: the script's own folder comes first
    if Submodules not in sys.meta_path:
        sys.meta_path.insert(0, Submodules)
    sys.modules[name] = importlib.import_module(PREFIX + name)


class Submodules:
    """Finder and loader of utils.dataset, once `utils` is another name of neuropbr.utils."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package = sys.modules.get(name.partition(".")[0])
        aliased = package is not None and "." in name and package.__name__.startswith(PREFIX)
        return importlib.util.spec_from_loader(name, cls) if aliased else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(PREFIX + spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Nothing: create_module has imported it."""
