"""Names that others gave to materials, maps, listed files, folders and links, wherever they are read or shown."""

from __future__ import annotations

import contextlib
import html.parser
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import export
import train
from bench.rate_report import render
from common.errors import UserError, brief, explain_os_error, one_line, run_command, shell_quote
from common.files import sha256_of
from formats import textures
from formats.manifest import MANIFEST
from tests.support.exports import FILES, edit_manifest
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    quick,
    refusal,
    save_maps,
    tree,
)
from training.checkpoint import save_checkpoint
from training.run_folder import remove_old_checkpoints

MARKUP = "<script>alert('x')</script> & \"q\" $a^{$ `id`"
NAMES = [
    "a b",
    'it\'s "so"',
    "two\nlines",
    "größe 日本語 🧱",
    "esc\x1b[31m\x07red",
    "..\\..x",
    "-rf",
    MARKUP.replace("/", "⁄"),
    "\u202eright to left",
    "%s %n {0} ~",
    "tab\there",
    "s3:bucket",
    "not utf-8 \udcff",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with checkpoints at 5 and 10."""
    folder = tmp_path_factory.mktemp("run")
    return quick(
        "--data_dir",
        save_maps(folder / "maps", 8, 8),
        "--save_dir",
        folder / "out",
        "--max_iter",
        10,
        "--save_interval",
        5,
        "--eval_metrics",
        "psnr",
    )


def lines_of(command, *flags) -> list[str]:
    """What a command that must end well prints; every line of it can be shown."""
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", newline="\n")
    with contextlib.redirect_stdout(stream):
        assert command([str(flag) for flag in flags]) == 0
    stream.flush()
    lines = stream.buffer.getvalue().decode().split("\n")
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    return lines


# --- from end to end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_material_of_that_name(name, tmp_path, monkeypatch):
    """Trained, evaluated, described and exported in every form. Nothing else is written; no name breaks a line."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    home = tmp_path / "home"
    try:
        maps = save_maps(home / name, 8, 8, ("diffuse", "normal"))
        for path in list(maps.iterdir()):
            path.rename(maps / f"x{name}_{path.name}"[-200:])
    except (OSError, UnicodeEncodeError) as error:
        pytest.skip(f"no such name on this file system: {error}")
    monkeypatch.chdir(home)
    before = tree(home)
    save_dir, out = f"out {name}", f"export {name}"
    flags = ["--max_iter", 2, "--batch_size", 64, "--n_neurons", 16, "--eval_metrics", "psnr", "--n_frequencies", 4]
    lines = lines_of(
        train.main, "--data_dir", name if name[0] != "-" else f"./{name}", f"--save_dir={save_dir}", *flags
    )
    assert any(one_line(name) in line for line in lines)
    run = next(path for path in Path(save_dir).iterdir() if path.name != "tensorboard")
    with tempfile.TemporaryDirectory() as plain:  # TensorBoard itself reads no folder whose name is not UTF-8
        shutil.copytree(Path(save_dir, "tensorboard", run.name), plain, dirs_exist_ok=True)
        events = EventAccumulator(plain, size_guidance={"images": 0}).Reload()
    assert "diffuse/decoded" in events.Tags()["images"] and "Loss/train" in events.Tags()["scalars"]
    lines_of(train.main, "--mode", "infer", f"--load_dir={run}")
    kinds = ["--images", "--transcode=png,glb", "--shader=hlsl,glsl,essl,wgsl,metal", "--dds_layout=filterable"]
    lines_of(export.main, f"--load_dir={run}", f"--out_dir={out}", *kinds)
    lines = lines_of(export.main, f"--describe={out}")
    assert one_line(name)[:60] in lines[0]
    for shader in ("decoder.hlsl", "decoder.metal", "decoder.wgsl"):
        assert Path(out, shader).read_text(encoding="ascii").splitlines()[0].startswith("//")
    assert json.loads(Path(out, MANIFEST).read_text(encoding="utf-8"))["material"]["name"]
    grown = {path for path in tree(home) if path not in before}
    assert {path.split(os.sep)[0] for path in grown} == {save_dir, out}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("name", ["two\nlines", "esc\x1b[31mred", 'größe "it\'s"'], ids=ascii)
def test_refusals_of_that_name(name, tmp_path, capsys):
    for flags, command in (
        (["--data_dir", tmp_path / name], None),
        (["--load_dir", tmp_path / name], None),
        (["--config", tmp_path / name], None),
        (["--load_dir", tmp_path / name, "--out_dir", tmp_path / "x"], "export"),
        (["--describe", tmp_path / name], "export"),
        (["--groups_batching", "--groups_batch_dir", tmp_path / name], None),
        (["--lr_scheduler", name], None),
        (["--" + name, "1"], None),
        (["--shader", name, "--out_dir", "x", "--load_dir", "x"], "export"),
    ):
        assert refusal(capsys, *flags, command=command).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_called_like_a_storage_service(tmp_path, monkeypatch):
    """tensorboardX takes s3: and gs: at the front of a path for services: events would have gone there, or nowhere."""
    save_maps(tmp_path / "maps", 8, 8, ("diffuse",))
    monkeypatch.chdir(tmp_path)
    for name in ("s3:x", "gs:x"):
        run = quick("--data_dir", "maps", "--save_dir", name, "--max_iter", 1, "--eval_metrics", "psnr")
        assert list(Path(name, "tensorboard", run.name).glob("events*"))


def test_dots_in_the_save_folder_mean_what_they_say(tmp_path, monkeypatch):
    save_maps(tmp_path / "maps", 8, 8, ("diffuse",))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    quick("--data_dir", "../../maps", "--save_dir", "../x/../out", "--max_iter", 1, "--eval_metrics", "psnr")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["er", "out", "x"] or (
        sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["er", "out"]
    )


def test_links_that_lead_in_a_circle(tmp_path, capsys):
    os.symlink("loop", tmp_path / "loop")
    save_maps(tmp_path / "maps", 8, 8, ("diffuse",))
    for flags, command in (
        (["--data_dir", tmp_path / "maps", "--save_dir", tmp_path / "loop", "--max_iter", 1], None),
        (["--data_dir", tmp_path / "loop"], None),
        (["--config", tmp_path / "loop"], None),
        (["--load_dir", tmp_path / "loop"], None),
        (["--describe", tmp_path / "loop"], "export"),
    ):
        refusal(capsys, *flags, command=command)
    assert explain_os_error(OSError(40, "x", "loop")) or sys.platform != "linux"


# --- what a manifest lists -------------------------------------------------------------------------------------------

COMMANDS = {
    "describe": lambda folder, out: ["--describe", folder],
    "images": lambda folder, out: ["--load_dir", folder, "--out_dir", out, "--images"],
    "transcode": lambda folder, out: ["--load_dir", folder, "--out_dir", out, "--transcode", "png,glb"],
    "shader": lambda folder, out: ["--load_dir", folder, "--out_dir", out, "--shader", "hlsl"],
    "dds_layout": lambda folder, out: ["--load_dir", folder, "--out_dir", out, "--dds_layout", "filterable"],
}


def listed(folder: Path, name: str, new: str) -> None:
    """Let the manifest list `new` with its own size and hash in place of `name`."""

    def change(manifest):
        manifest["files"] = {new if key == name else key: entry for key, entry in manifest["files"].items()}
        for grid in manifest["grids"]:
            grid["files"] = [new if file == name else file for file in grid["files"]]

    edit_manifest(folder, change)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["..", "absolute", "below", "link", "link to a link", "newline"])
def test_files_outside_of_the_folder_are_refused(kind, command, folder, tmp_path, capsys):
    """With the right bytes, size and hash: nothing but the place is wrong."""
    elsewhere, name = tmp_path / "elsewhere", FILES[0]
    elsewhere.mkdir()
    shutil.copy(folder / name, elsewhere / name)
    if kind == "..":
        listed(folder, name, f"../elsewhere/{name}")
    elif kind == "absolute":
        listed(folder, name, str(elsewhere / name))
    elif kind == "below":
        (folder / "sub").mkdir()
        shutil.copy(folder / name, folder / "sub" / name)
        listed(folder, name, f"sub/{name}")
    elif kind == "newline":
        listed(folder, name, "x\n../x.dds")
    else:
        (folder / name).unlink()
        target = elsewhere / name
        if kind == "link to a link":
            os.symlink(target, folder / "between.dds")
            target = Path("between.dds")
        os.symlink(target, folder / name)
        assert sha256_of(folder / name) == sha256_of(elsewhere / name)
    capsys.readouterr()
    out = tmp_path / "out"
    line = refusal(capsys, *COMMANDS[command](folder, out), command="export")
    assert any(word in line for word in (name, "x.dds", str(elsewhere)[:40]))
    assert not out.exists()


def test_links_inside_of_the_folder_and_to_the_folder_are_fine(folder, tmp_path):
    os.rename(folder / FILES[0], folder / "kept.bin")
    os.symlink("kept.bin", folder / FILES[0])
    os.symlink(folder, tmp_path / "link")
    assert textures.read_export(folder) and textures.read_export(tmp_path / "link")
    assert export.main(["--describe", str(tmp_path / "link")]) == 0


# --- run folders of somebody else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["infer", "infer/compare", "media", "models", "models/superseded"])
def test_a_run_folder_with_links_does_not_make_us_write_elsewhere(part, finished, tmp_path, capsys):
    run, elsewhere = shutil.copytree(finished, tmp_path / "out" / finished.name), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"x")
    target = run / part
    target.parent.mkdir(exist_ok=True)
    if target.is_dir():
        shutil.copytree(target, elsewhere, dirs_exist_ok=True)
        shutil.rmtree(target)
    os.symlink(elsewhere, target)
    before = tree(elsewhere)
    flags = (
        ["--mode", "infer"] if "infer" in part else ["--load_iter", 5] if "superseded" in part else ["--max_iter", 12]
    )
    assert part.split("/")[-1] in refusal(capsys, "--load_dir", run, *flags)
    assert tree(elsewhere) == before


def test_a_checkpoint_that_is_a_link_is_removed_as_a_link(finished, tmp_path):
    """shutil.rmtree of a link is an OSError, and ended the run."""
    run = shutil.copytree(finished, tmp_path / finished.name)
    kept = tmp_path / "kept"
    checkpoint_of(run, 5).rename(kept)
    os.symlink(kept, checkpoint_of(run, 5))
    remove_old_checkpoints(run, 1)
    assert not os.path.lexists(checkpoint_of(run, 5)) and (kept / "model.pth").is_file()
    assert save_checkpoint


# --- HTML ------------------------------------------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]


def report_of(name: str) -> str:
    entries = [
        {
            "material": name,
            "width": 8,
            "height": 8,
            "maps": ["diffuse"],
            "codec": codec,
            "quality": None,
            "bpp": bpp,
            "seconds": 1.0,
            "psnr": {"all": 30.0 + bpp, "diffuse": 30.0},
            "ssim": {"all": 0.9},
            "flip": 0.1,
            "normal_degrees": None,
            "bytes": 100,
            "settings": {},
            "target_bpp": bpp,
            "lods": [30.0, 31.0],
        }
        for codec, bpp in (("ours", 2.5), ("bc1", 4.0))
    ]
    machine = dict.fromkeys(("processor", "cores", "cuda", "system", "python", "torch", "commit", "date"), "x")
    result = {"entries": entries, "machine": machine, "settings": {"preset": "fast", "rates": [2.5]}}
    from bench.rate_summary import label_of

    pixels = {"diffuse": np.zeros((4, 4, 3), np.uint8)}
    pictures = {name: {"source": pixels, **{label_of(entry): pixels for entry in entries}}}
    return render(result, [], pictures)


@pytest.mark.parametrize(
    "name",
    [
        MARKUP,
        "</script><img src=x onerror=alert(1)>",
        "$\\frac{",
        "a$b$c_{",
        "two\nlines\x1b[31m",
        "' onload='x",
        "--><!--slot:data-->",
    ],
    ids=ascii,
)
def test_names_in_the_report_of_rates(name):
    """No element or attribute more than with a plain name, and no formula, which ended the plot with an exception."""
    pytest.importorskip("matplotlib")
    plain, odd = Elements(report_of("plain")), Elements(report_of(name))
    assert odd.tags == plain.tags and odd.attributes == plain.attributes


# --- words for messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*NAMES, "", "a'b\\c\nd", "\x01\x7f", "$(id)\n`id`"], ids=ascii)
def test_shell_quote_is_one_word_on_one_line(text):
    word = shell_quote(text)
    assert word.isprintable()
    bash = shutil.which("bash")
    if bash:
        told = subprocess.run([bash, "-c", f"printf %s {word}"], capture_output=True, env={"LC_ALL": "C.UTF-8"})
        assert told.stdout == os.fsencode(text)


def test_brief_takes_no_longer_than_its_result():
    value: list = []
    for _ in range(60):
        value = [value] * 30
    value.append(value)
    for odd in (
        value,
        {"x": value},
        "x" * 10**6,
        16**9999,
        b"x" * 10**6,
        list(range(10**6)),
        {1: {2: {3: {4: value}}}},
    ):
        assert len(brief(odd)) <= 80
    assert brief([1, "a"]) == "[1, 'a']" and brief(5) == "5" and brief("x" * 50) == repr("x" * 50)


def test_a_user_error_is_one_line(capsys):
    def fail():
        raise UserError("a\nb\x1b[0m\u2028c\udcff")

    assert run_command(fail) == 2
    assert capsys.readouterr().err == "error: a\\nb\\x1b[0m\\u2028c\\udcff\n"
