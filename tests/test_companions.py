"""The companions lightmap/, deferred/ and neuropbr/: how their commands start, and what importing one loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(300)  # every command of the companions starts
COMPANIONS = ("lightmap", "deferred", "neuropbr")
FILES = [path for name in COMPANIONS for path in sorted((ROOT / name).rglob("*.py"))]
START = re.compile(r'^if __name__ == "__main__":\n    sys\.exit', re.M)
COMMANDS = [path.relative_to(ROOT) for path in FILES if START.search(path.read_text(encoding="utf-8"))]
MODULES = [".".join(command.with_suffix("").parts) for command in COMMANDS]
# All modules but presets, and files that start another command when they are imported.
PARTS = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES
         if path.parent.name != "configs" and "training" not in path.relative_to(ROOT).parts]  # fmt: skip
ABOVE = ("training", "groups", "viewer", "train", "export", "describe", "transcode")
# Of the engines a companion may load what compiles and declares C++ kernels.
ENGINE = {"engine", "engine.errors", *(f"engine.cpu{part}" for part in ("", ".build", ".cache", ".library", ".zig"))}

# Runs commands one after the other in one process, since importing torch takes longer than all of them; before each,
# the modules of the repository are forgotten. Prints {name: [exit code, modules of the repository, output, and which of
# the names that modules of companions have in their folders can be imported without the folder's name]}.
HARNESS = """
import contextlib, importlib.util, io, json, os, runpy, sys
root, form, names = json.load(sys.stdin)
path, found = list(sys.path), {}
bare = ("utils", "models", "losses", "student", "coreml", "train_config", "options", "siren", "scene", "trainer")
in_root = lambda module: (getattr(module, "__file__", None) or "").startswith(root + os.sep)
installed = lambda module: f"{os.sep}site-packages{os.sep}" in module.__file__  # an environment may lie in the checkout
own = lambda: sorted(name for name, module in sys.modules.items() if in_root(module) and not installed(module))
for name in names:
    for module in own():
        del sys.modules[module]
    sys.argv, out, code = [name, "--help"], io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            if form == "import":
                sys.path[:] = [root, *path[1:]]
                importlib.import_module(name)
            elif form == "module":
                sys.path[:] = [root, *path[1:]]
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                sys.path[:] = [os.path.dirname(os.path.join(root, name)), *path[1:]]
                runpy.run_path(os.path.join(root, name), run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
    found[name] = [code, own(), out.getvalue(), [each for each in bare if importlib.util.find_spec(each)]]
json.dump(found, sys.stdout)
"""


def started(form: str, names: list[str]) -> dict[str, tuple[int, list[str], str, list[str]]]:
    """Name -> what HARNESS prints of it; form: import, module or file."""
    done = subprocess.run(
        [sys.executable, "-c", HARNESS], input=json.dumps([str(ROOT), form, names]), cwd="/", capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_folder_has_its_commands():
    assert {"lightmap.train", "deferred.train", "neuropbr.train", "neuropbr.coreml.run_inference"} <= set(MODULES)
    assert len(COMMANDS) == 22


@pytest.mark.parametrize("form", ["file", "module"])
def test_every_command_starts_from_its_folder_and_from_the_root(form):
    names = [str(command) for command in COMMANDS] if form == "file" else MODULES
    for name, (code, _, text, bare) in started(form, names).items():
        assert code == 0 and text.startswith("usage:"), name
        assert bare == [], name  # a companion's modules hide no other packages


def test_importing_a_module_loads_no_room_above_the_companions():
    """Of commands, which import what works when they work, and of what they import then."""
    assert {"lightmap.training", "deferred.training", "neuropbr.utils.teacher_loop", *MODULES} <= {*PARTS}
    for name, (_, modules, *_) in started("import", PARTS).items():
        own = name.split(".")[0]
        others = {*ABOVE, *COMPANIONS} - {own}
        assert [module for module in modules if module.split(".")[0] in others] == [], name
        engines = {module for module in modules if module.split(".")[0] == "engine"}
        assert engines <= (ENGINE if own == "lightmap" else set()), name


@pytest.mark.parametrize("name", ["lightmap.sample_scene", "lightmap.translate_shader"])
def test_commands_that_need_no_torch_do_not_load_it(name):
    words = [sys.executable, "-c", f"import sys, {name}; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 0


def test_a_bare_name_inside_neuropbr_is_the_same_module():
    script = (
        "import sys, utils.maps, train_config\nfrom models.generator import MultiViewPBRGenerator\n"
        "from train import MultiViewPBRGenerator as again\nimport neuropbr.utils.maps\n"
        "print(utils.maps is neuropbr.utils.maps, again is MultiViewPBRGenerator,"
        " train_config.TrainConfig.__module__, 'common' in sys.modules)"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT / "neuropbr", capture_output=True, text=True, check=False)
    assert done.stdout == "True True neuropbr.train_config True\n", done.stderr


@pytest.mark.parametrize("module", ["train_config", "neuropbr.train_config"])
def test_a_configuration_finds_its_classes_by_both_names(tmp_path, module):
    from neuropbr.train_config import load_config

    path = tmp_path / "own.py"
    body = "def get_config():\n    config = TrainConfig()\n    config.training.seed = 5\n    return config\n"
    path.write_text(f"from {module} import TrainConfig\n\n\n{body}")
    assert load_config(str(path)).training.seed == 5
