"""How commands start: --help, wrong flags and wrong values are answered before PyTorch is imported."""

from __future__ import annotations

import re

import pytest

from configs import Config
from formats.options import SHADER_LANGUAGES
from tests.support.runs import save_maps
from tests.support.startups import HEAVY, ROOT, start

pytestmark = pytest.mark.timeout(300)  # every command of the repository starts
SHIMS = "neuropbr/training/"  # run_path of other commands
MAIN = re.compile(r'^if __name__ == "__main__":\n    sys\.exit\(', re.M)
ROOMS = ("bench", "data", "deferred", "engine", "lightmap", "neuropbr", "shaders")
FILES = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
SCRIPTS = [path.relative_to(ROOT).as_posix() for path in FILES if MAIN.search(path.read_text(encoding="utf-8"))]
SCRIPTS += [path.relative_to(ROOT).as_posix() for path in FILES if path.as_posix().startswith(f"{ROOT}/{SHIMS}")]


def program_of(script: str) -> str:
    """As the documentation starts it: benches and the compiler's table as modules."""
    as_module = script.startswith(("bench/", "engine/"))
    return f"-m {script.removesuffix('.py').replace('/', '.')}" if as_module else script


PROGRAMS = [*map(program_of, SCRIPTS), "-m tests.fuzz", "tests/sanitize.py"]


def all_started(programs: list[str], lines: list[list[str]]) -> list[dict]:
    return start([{"program": p, "line": line, "folder": str(ROOT)} for p, line in zip(programs, lines)])


@pytest.fixture(scope="module")
def helped():
    return dict(zip(PROGRAMS, all_started(PROGRAMS, [["--help"]] * len(PROGRAMS))))


@pytest.fixture(scope="module")
def refused():
    return dict(zip(PROGRAMS, all_started(PROGRAMS, [["--no_such_flag"]] * len(PROGRAMS))))


def test_every_command_is_here():
    assert {"train.py", "export.py", "-m bench.rate", "lightmap/train.py", "-m engine.cuda.compiled"} <= {*PROGRAMS}
    assert len(PROGRAMS) == 53


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_asks_for_no_heavy_package(program, helped):
    answer = helped[program]
    assert (answer["asked"], answer["code"]) == ([], 0) and "usage: " in answer["said"], answer


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_flag_asks_for_no_heavy_package(program, refused):
    answer = refused[program]
    assert (answer["asked"], answer["code"]) == ([], 2), answer
    assert "no_such_flag" in answer["said"] or "required" in answer["said"], answer


# Program, its flags, and what the line names. {} is an empty folder.
MISTAKES = {
    "a value out of range": ("train.py", "--max_iter -5", "--max_iter"),
    "a word that is none of the choices": ("train.py", "--preset fastest", "--preset"),
    "flags that exclude each other": ("train.py", "--bpp 2.5 --target_psnr 40", "--target_psnr"),
    "no folder of maps": ("train.py", "--data_dir {}/none", "none"),
    "a folder without the map of --maps": ("train.py", "--data_dir {} --maps diffuse=a.png", "a.png"),
    "no run": ("train.py", "--load_dir {}/none", "--load_dir"),
    "no checkpoint": ("train.py", "--mode infer --load_dir {}", "--load_dir"),
    "a wrong key in a configuration": ("train.py", "--config {}/wrong.yaml", "max_iteration"),
    "no folder of materials": ("train.py", "--groups_batching --groups_batch_dir {}/none", "--groups_batch_dir"),
    "an export of no run": ("export.py", "--load_dir {}/none --out_dir {}/out", "--load_dir"),
    "an export to nowhere": ("export.py", "--load_dir {} --images", "--out_dir"),
    "no language": ("export.py", "--load_dir {} --out_dir {}/out --shader basic", "--shader"),
    "no format": ("export.py", "--load_dir {} --out_dir {}/out --transcode bmp", "--transcode"),
    "lightmap/": ("lightmap/train.py", "--epochs 0", "--epochs"),
    "lightmap/, two that go together": ("lightmap/infer.py", "--time 3", "--time and --out"),
    "lightmap/, nothing to render": ("lightmap/infer.py", "--time 3 --out a.png", "--ckpt"),
    "deferred/": ("deferred/train.py", "--epoch -1", "--epoch"),
    "deferred/, rendering": ("deferred/render.py", "--batch 0", "--batch"),
    "neuropbr/": ("neuropbr/train.py", "--set data.image_sise=256", "image_sise"),
    "neuropbr/, student": ("neuropbr/student/train.py", "--shards-dir {} --alpha 7", "alpha"),
    "a bench": ("-m bench.rate", "{} --rates 1000000", "--rates"),
    "a bench, codecs": ("-m bench.rate", "{} --codecs mp3", "--codecs"),
    "a bench, threads": ("-m bench.ablation", "{} --num_threads -1", "--num_threads"),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "wrong.yaml").write_text("max_iteration: 5\n")
    lines = [words.replace("{}", str(folder)).split() for _, words, _ in MISTAKES.values()]
    return dict(zip(MISTAKES, all_started([program for program, *_ in MISTAKES.values()], lines)))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_usual_mistakes_are_answered_at_once(mistake, mistaken):
    answer, named = mistaken[mistake], MISTAKES[mistake][2]
    assert (answer["asked"], answer["code"]) == ([], 2), answer
    assert named in answer["said"].splitlines()[-1], answer


def test_a_dry_run_lists_before_it_measures(tmp_path):
    """Which materials there are to train stands there before PyTorch is imported for the estimate of the time."""
    (tmp_path / "batch" / "a empty").mkdir(parents=True)
    save_maps(tmp_path / "batch" / "b brick", 12, 8, ("roughness",))
    line = ["--groups_batching", "--groups_batch_dir", str(tmp_path / "batch"), "--groups_save_dir",
            str(tmp_path / "out"), "--groups_dry_run", "--max_iter", "40"]  # fmt: skip
    (answer,) = start([{"program": "train.py", "line": line, "folder": str(ROOT)}])
    assert answer["asked"] == ["torch"]
    assert answer["said"].splitlines() == [
        "skipped   a empty: no image named after a map",
        "train     b brick: 12x8, 40 iterations",
        "1 materials: 1 to train; nothing is written",
    ]


def test_importing_a_heavy_package_is_noticed(tmp_path):
    """What these tests look for: an import at the top of a file, and one that an `except ImportError` would hide."""
    for name, text in (("a.py", "import torch\n"), ("b.py", "try:\n    import cv2\nexcept ImportError:\n    pass\n")):
        (tmp_path / name).write_text(text)
    found = start([{"program": str(tmp_path / name), "line": [], "folder": str(ROOT)} for name in ("a.py", "b.py")])
    assert [answer["asked"] for answer in found] == [["torch"], ["cv2"]] and {"torch", "cv2"} <= HEAVY


def test_names_that_flags_know_without_pytorch():
    """Copies of names whose own modules import PyTorch."""
    from bench.ablation import NAMES
    from bench.ablation_variants import VARIANTS
    from shaders.languages import LANGUAGES

    assert tuple(VARIANTS) == NAMES
    assert tuple(LANGUAGES) == SHADER_LANGUAGES


def test_annotations_of_the_configuration_resolve():
    import typing

    assert typing.get_type_hints(Config)["data_dir"] is str
