"""Bad flags, materials and run folders, training that diverges: one line, exit code 2, nothing half done left."""

from __future__ import annotations

import errno
import shutil

import pytest
from PIL import Image as PillowImage

import train
from common.errors import UserError, explain_os_error, run_command
from tests.support.finished_runs import (
    finished,  # noqa: F401  # fixture
    maps,  # noqa: F401  # fixture
    run,  # noqa: F401  # fixture
)
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    leftovers,
    newest_run,
    patch_step,
    process,
    quick,
    refusal,
    refusal_line,
    save_maps,
    tree,
)
from training.run_folder import list_checkpoints

# ruff: noqa: F811  # fixtures are imported

# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, words",
    [(["--quantise", "True"], ["--quantise"]), (["--max_it", 5], ["--max_it"]), (["--max_iter"], ["--max_iter"]),
     (["--max_iter", "many"], ["--max_iter", "many"]), (["--quantize_bits", 3], ["--quantize_bits", "1, 2, 4, 8, 16"]),
     (["--quantize_bits", 16, "--save_bits", 8], ["--save_bits"]), (["--mode", "infer"], ["--load_dir"]),
     (["--load_iter", 5], ["--load_dir"]), (["--load_iter", -2], ["--load_iter"]),
     (["--device", "cuda:99"], ["--device"]),
     (["--device", "banana"], ["--device"]), (["--device", "meta"], ["--device"]), (["--device", ""], ["--device"]),
     (["--config", "none.yaml"], ["--config"]), (["--groups_max_workers", -1], ["--groups_max_workers", "0 to 1024"]),
     (["--lr_scheduler", "step\nlr"], ["--lr_scheduler"]),
     (["--latents", "bc7", "--bpp", 5], ["--latents: expected one of packed, bc1, astc6x6, got bc7; BC1 is better at",
                                         "BC1 31.3 dB, BC7 30.4"]),
     (["--latents", "BC4"], ["got BC4; BC1 is better at equal bits", "29.5"]),
     (["--latents", "astc8x8"], ["got astc8x8; of ASTC only astc6x6 can be trained"]),
     (["--latents", "bc9"], ["expected one of packed, bc1, astc6x6, got bc9"]),
     (["--latents", "bc1", "--quantize", "False"], ["--latents bc1: a rate counts rounded features"]),
     (["--preset", "fast", "--quantize", "False"], ["--preset fast: a rate counts"])],
    ids=str,
)  # fmt: skip
def test_flags(flags, words, maps, tmp_path, capsys):
    line = refusal(capsys, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 3, *flags)
    assert all(word in line for word in words)
    assert list(tmp_path.iterdir()) == []


def test_a_process(tmp_path):
    """What the shell sees: exit code 2, one line on stderr, nothing written."""
    result = process("--data_dir", "none", "--save_dir", "out", cwd=tmp_path)
    line = refusal_line(result.returncode, result.stderr)
    assert "none" in line and "Traceback" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "grids, words",
    [("{max_resolution: 24, n_levels: 5}", ["24"]), ("{quantize_bits: 16, save_bits: 8}", ["16"]),
     ("{}, {quantize_bits: 16, save_bits: 8}", ["hash_grid_configs[1]"]),
     ("{}, {storage: bc4}", ["hash_grid_configs[1].storage: expected one of packed, bc1, astc6x6, got bc4; BC1"]),
     ("{storage: bc1, quantize_bits: 4}", ["hash_grid_configs[0]", "leave out quantize_bits and save_bits"]),
     ("{storage: bc1, save_bits: 32}", ["hash_grid_configs[0]", "4 bits a texel"]),
     ("{storage: astc6x6, save_bits: 32}", ["hash_grid_configs[0]", "storage astc6x6 has 3.556 bits a texel"])],
)  # fmt: skip
def test_grids_that_cannot_be_built(grids, words, maps, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(f"hash_grid_configs: [{grids}]")
    line = refusal(capsys, "--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert all(word in line for word in words)
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"], "refused before any work starts"


def test_words_among_grids_of_blocks(maps, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{storage: bc1}, {max_resolution: 8}]")
    flags = ["--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out", "--latents", "bc1"]
    line = refusal(capsys, *flags)
    assert "--latents bc1: expected storage bc1" in line and "found packed in hash_grid_configs[1]" in line


def test_no_present_map_has_a_weight(maps, tmp_path, capsys):
    weights = ", ".join(f"{name}: 0" for name in ("diffuse", "normal", "roughness"))
    (tmp_path / "my.yaml").write_text(f"texture_loss_weights: {{{weights}}}")
    line = refusal(capsys, "--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert "texture_loss_weights" in line
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


# --- materials -----------------------------------------------------------------------------------------------------


def missing(folder):
    return ["no such", "none"]


def empty(folder):
    folder.mkdir()
    return ["empty"]


def a_file(folder):
    folder.write_bytes(b"x")
    return ["Not a directory"]


def no_map(folder):
    folder.mkdir()
    (folder / "readme.txt").write_text("x")
    PillowImage.new("RGB", (4, 4)).save(folder / "zebra.png")
    return ["zebra.png", "readme.txt"]


def truncated(folder):
    path = save_maps(folder, 32, 32) / "made_diffuse.png"
    path.write_bytes(path.read_bytes()[:-300])
    return ["made_diffuse.png"]


def truncated_16_bit(folder):
    path = save_maps(folder, 32, 32, deep=("roughness",)) / "made_roughness.png"
    path.write_bytes(path.read_bytes()[:-300])
    return ["made_roughness.png"]


def flipped(folder):
    path = save_maps(folder, 32, 32) / "made_normal.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    return ["made_normal.png"]


def zero_bytes(folder):
    (save_maps(folder) / "made_roughness.png").write_bytes(b"")
    return ["made_roughness.png", "empty"]


def text(folder):
    (save_maps(folder) / "made_normal.png").write_text("<html>404</html>")
    return ["made_normal.png"]


def two_for_one(folder):
    shutil.copy(save_maps(folder) / "made_diffuse.png", folder / "other_albedo.png")
    return ["made_diffuse.png", "other_albedo.png", "diffuse"]


def grey_normal(folder):
    PillowImage.new("L", (16, 16)).save(save_maps(folder) / "made_normal.png")
    return ["made_normal.png", "RGB"]


@pytest.mark.parametrize(
    "make", [missing, empty, a_file, no_map, truncated, truncated_16_bit, flipped, zero_bytes, text, two_for_one,
             grey_normal], ids=lambda make: make.__name__,
)  # fmt: skip
@pytest.mark.parametrize("name", ["plain", "two\nlines 'q'"], ids=["plain", "odd"])
def test_materials(make, name, tmp_path, capsys):
    words = make(tmp_path / name)
    before = sorted(tree(tmp_path))
    line = refusal(capsys, "--data_dir", tmp_path / name, "--save_dir", tmp_path / "out")
    assert (any(word.lower() in line.lower() for word in words) and "plain" in line) or name != "plain"
    assert sorted(tree(tmp_path)) == before


def test_a_name_that_no_file_can_have(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text('data_dir: "a\\0b"')
    assert "data_dir" in refusal(capsys, "--config", tmp_path / "my.yaml", "--save_dir", tmp_path / "out")


# --- run folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_load_dir_without_a_run(mode, maps, finished, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two\nlines").mkdir()
    for name in ("none", "file", "empty", "two\nlines", "none\nat all"):
        line = refusal(capsys, "--mode", mode, "--load_dir", tmp_path / name)
        assert "--load_dir" in line and name.split()[0] in line
    assert finished.name in refusal(capsys, "--mode", mode, "--load_dir", finished.parent), "a guess at what was meant"
    refusal(capsys, "--mode", mode, "--load_dir", checkpoint_of(finished, 20))
    line = refusal(capsys, "--mode", mode, "--load_dir", finished, "--load_iter", 15)
    assert "15" in line and "10, 20" in line


def test_export_of_what_is_not_there(finished, tmp_path, capsys):
    refusal(capsys, "--load_dir", tmp_path / "none", "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", finished, "--load_iter", 7, "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", checkpoint_of(finished, 20), "--out_dir", tmp_path / "out", command="export")
    refusal(capsys, "--load_dir", finished, command="export")
    refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "out", "--image", command="export")
    assert list(tmp_path.iterdir()) == []


def test_floats_cannot_be_exported(maps, tmp_path, capsys):
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 2, "--quantize", "False")
    line = refusal(capsys, "--load_dir", run, "--out_dir", tmp_path / "export", command="export")
    assert "--quantize False" in line
    assert not (tmp_path / "export").exists()


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_that_diverges(value, maps, tmp_path, monkeypatch, capsys):
    def make_step(step):
        def diverging(self, n):
            loss = step(self, n)
            return value if self.iteration > 30 else loss

        return diverging

    patch_step(monkeypatch, make_step)
    line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 60, "--save_interval", 20)
    assert "diverged" in line and "--learning_rate" in line
    assert list(list_checkpoints(newest_run(tmp_path))) == [20]
    assert leftovers(tmp_path) == []


# --- how errors are told -------------------------------------------------------------------------------------------


def raising(error):
    def command():
        raise error

    return command


def test_run_command(capsys):
    assert run_command(lambda: 7) == 7
    assert run_command(raising(UserError("what: where"))) == 2
    assert capsys.readouterr().err == "error: what: where\n"
    assert run_command(raising(KeyboardInterrupt())) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_command(raising(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run_command(raising(FileNotFoundError(errno.ENOENT, "x", "y")))


def test_run_command_prints_one_line(capsys):
    assert run_command(raising(UserError("a folder named two\nlines: not there"))) == 2
    refusal_line(2, capsys.readouterr().err)


EXPLAINED = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG]


@pytest.mark.parametrize("number", EXPLAINED)
def test_explained_errors_name_the_file_and_a_way_out(number):
    text = explain_os_error(OSError(number, "x", "some/file"))
    assert text.startswith("some/file: ") and (";" in text)
    assert explain_os_error(OSError(number, "x")) is not None
    assert explain_os_error(OSError(errno.EBADF, "x")) is None


def test_a_folder_of_folders(tmp_path, capsys):
    (tmp_path / "library" / "oak").mkdir(parents=True)
    flags = ["--data_dir", str(tmp_path / "library")]
    line = refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
    assert "found only folders: oak" in line and "--groups_batching" in line
    (tmp_path / "library" / "oak").rmdir()
    line = refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
    assert "an empty folder" in line and "rename" not in line
