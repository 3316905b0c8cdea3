"""The layout of the repository: rooms with one subject each, and imports that run one way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import house_rules as house
from tests.support.paths import ROOT

# Lowest first. A room imports from rooms that stand before it, never from one behind it.
ORDER = (
    "common", "configs", "maps", "dataset", "shape", "quantize", "quantized", "blocks", "model", "metrics", "engine",
    "formats", "shaders", "transcode", "describe", "training", "viewer", "groups", "train", "export",
)  # fmt: skip
COMPANIONS = ("lightmap", "deferred", "neuropbr")
OUTSIDERS = (*COMPANIONS, "bench", "tests", "data")  # no room imports them
NOT_FOR_COMPANIONS = ("training", "groups", "viewer", "train", "export")


def test_every_room_has_a_place():
    assert house.rooms_without_a_place(ROOT, [*ORDER, *OUTSIDERS]) == []


def test_imports_point_down():
    assert house.arrows_up(ROOT, ORDER, OUTSIDERS) == []


def test_no_circles():
    assert house.circles(ROOT, [*ORDER, "bench", "lightmap", "deferred"]) == []


def test_companions_import_no_run_and_not_each_other():
    assert house.forbidden_imports(ROOT, COMPANIONS, NOT_FOR_COMPANIONS) == []


def test_no_test_imports_another():
    assert house.imported_tests(ROOT) == []


def test_few_files_at_the_root():
    assert house.crowded_root(ROOT) == []


def test_no_prefix_families():
    assert house.prefix_families(ROOT, ORDER) == []


def test_every_package_says_its_subject():
    assert house.packages_without_a_subject(ROOT, [*ORDER, "bench", "lightmap", "deferred"]) == []


# --- the rules themselves: each fault is found in a small tree --------------------------------------------------------


def tree(root: Path, **files: str) -> Path:
    """A repository of two rooms, a module between them and a companion, with these files on top."""
    good = {
        "low/__init__": '"""The lowest room."""', "low/tools": "import json\n",
        "middle": "from low import tools\nfrom low.tools import x\n",
        "high/__init__": '"""The highest room (of two)."""',
        "high/loop": "import middle\n\ndef f():\n    import low.tools\n",
        "side/__init__": '"""A companion."""', "side/train": "from low import tools\nfrom side import train\n",
        "tests/support/made": "x = 1\n",
        "tests/test_one": "from tests.support.made import x\n\ndef test_it():\n    pass\n",
    }  # fmt: skip
    for name, text in {**good, **files}.items():
        path = root / (name if "." in name else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def faults(root: Path) -> list[str]:
    """All rules at once."""
    order, outsiders = ("low", "middle", "high"), ("side", "tests")
    return [
        *house.rooms_without_a_place(root, [*order, *outsiders]),
        *house.arrows_up(root, order, outsiders),
        *house.circles(root, [*order, "side"]),
        *house.forbidden_imports(root, ["side", "other"], ["high"]),
        *house.imported_tests(root),
        *house.crowded_root(root, most_modules=1),
        *house.prefix_families(root, order),
        *house.packages_without_a_subject(root, [*order, "side"]),
    ]


FAULTS = {
    "up": ({"low/tools": "import middle\n"}, "low.tools imports middle"),
    "up, of a name": ({"low/tools": "from high.loop import f\n"}, "low.tools imports high.loop"),
    "up, of a module of a package": ({"low/tools": "from high import loop\n"}, "low.tools imports high.loop"),
    "up, inside a function": ({"low/tools": "def f():\n    import high\n"}, "low.tools imports high"),
    "up, for types only": (
        {"low/tools": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from high import loop\n"},
        "low.tools imports high.loop",
    ),
    "up, by import_module": (
        {"low/tools": "import importlib\nimportlib.import_module('high.loop')\n"}, "low.tools imports high.loop",
    ),
    "up, from a package's own file": (
        {"low/__init__": '"""The lowest room."""\nimport middle\n'}, "low imports middle",
    ),
    "up, to a companion": ({"high/loop": "from side import train\n"}, "high.loop imports side.train"),
    "circle": (
        {"low/tools": "from low import more\n", "low/more": "from low.tools import x\n"}, "low.more <-> low.tools",
    ),
    "circle, relative": (
        {"low/tools": "from . import more\n", "low/more": "from .tools import x\n"}, "low.more <-> low.tools",
    ),
    "circle, inside a function": (
        {"low/tools": "import low.more\n", "low/more": "def f():\n    from low import tools\n"},
        "low.more <-> low.tools",
    ),
    "circle of three": (
        {"low/a": "import low.b\n", "low/b": "import low.c\n", "low/c": "import low.a\n"},
        "low.a <-> low.b <-> low.c",
    ),
    "a companion and a run": ({"side/train": "from high import loop\n"}, "side.train imports high"),
    "two companions": (
        {"side/train": "import other.x\n", "other/x": "", "other/__init__": '"""Other."""'}, "side.train imports other",
    ),
    "a test and a test": (
        {"tests/test_two": "from tests.test_one import test_it\n"}, "tests.test_two imports tests.test_one",
    ),
    "a helper and a test": (
        {"tests/support/made": "from tests import test_one\n"}, "tests.support.made imports tests.test_one",
    ),
    "a file too many": ({"high": "", "low/tools": ""}, "2 *.py at the root"),
    "requirements": (
        {f"requirements{name}.txt": "" for name in ("", "-test", "-gpu")}, "3 requirements*.txt at the root",
    ),
    "a room without a place": ({"attic/__init__": '"""An attic."""'}, "attic has no place"),
    "a family": ({"low/wave_file": "", "low/wave_form": ""}, "low: wave_file.py, wave_form.py"),
    "no docstring": ({"low/__init__": ""}, "low: expected one sentence, found ''"),
    "two sentences": ({"low/__init__": '"""A room. It is low."""'}, "low: expected one sentence"),
    "no sentence": ({"low/__init__": '"""A room"""'}, "low: expected one sentence"),
    "no package": ({"high/deep/more": ""}, "high/deep: expected one sentence"),
}  # fmt: skip


def test_a_good_tree_has_no_faults(tmp_path):
    files = {"low/__init__": '"""The lowest room.\n\nMore about it. And more."""', "low/wave_file": "", "low/wave": ""}
    assert faults(tree(tmp_path, **files)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault, tmp_path):
    files, expected = FAULTS[fault]
    assert any(line.startswith(expected) for line in faults(tree(tmp_path, **files))), faults(tmp_path)


def test_a_missing_room_is_found(tmp_path):
    (tree(tmp_path) / "middle.py").unlink()
    assert "middle is in the order and does not exist" in faults(tmp_path)
