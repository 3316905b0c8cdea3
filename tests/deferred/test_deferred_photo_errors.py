"""prepare.py --colmap and --transforms: what they say about wrong input, and notes about what is left out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from deferred.dataset.frames import list_ids
from deferred.photos import importer, pictures
from deferred.photos.pictures import find_masks
from deferred.photos.transforms import read_transforms
from deferred.prepare import make_options, prepare
from tests.support import photo_sets as sets
from tests.support.forked import python

pytest.importorskip("trimesh", reason="trimesh is not installed: pip install -r requirements/deferred.txt")
TAKEN = sets.shots(3, 24, 16)


@pytest.fixture
def place(tmp_path):
    """Photographs, cameras in both kinds of files, and the box."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install -r requirements/deferred.txt")
    sets.write_photos(tmp_path / "images", TAKEN)
    sets.write_colmap_text(tmp_path / "sparse", TAKEN)
    sets.write_transforms(tmp_path / "images" / "transforms.json", TAKEN)
    sets.write_obj(tmp_path / "box.obj")
    return tmp_path


def run(place, kind="colmap", **given) -> list[str]:
    said: list[str] = []
    sources = {"colmap": {"colmap": place / "sparse", "images": place / "images"},
               "transforms": {"transforms": place / "images" / "transforms.json"}}  # fmt: skip
    given = {**sources[kind], "mesh": place / "box.obj", "out": place / "out", "caster": "own", **given}
    given = {name: str(value) if not isinstance(value, (bool, int, float)) else value for name, value in given.items()}
    prepare(make_options({"jobs": 1, **given}), place / "out", said.append)
    return said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colmap": "a", "transforms": "b", "mesh": "m"}, ("--colmap and --transforms",)),
        ({"colmap": "a", "images": "i", "out": "x"}, ("--colmap", "--mesh")),
        ({"colmap": "a", "mesh": "m", "out": "x"}, ("--colmap", "--images")),
        ({"transforms": "a", "mesh": "m"}, ("--out",)),
        ({"transforms": "a", "mesh": "m", "out": "x", "frames": 3}, ("--frames and --transforms", "rendered")),
        ({"colmap": "a", "images": "i", "mesh": "m", "out": "x", "texture": "t"}, ("--texture and --colmap",)),
        ({"masks": "a", "out": "x"}, ("--masks", "--colmap or --transforms")),
        ({"max_size": 3, "out": "x"}, ("--max_size", "--colmap or --transforms")),
        ({"colmap": "a", "images": "i", "mesh": "m", "out": "x", "scale": 2.0}, ("--scale", "0.001 to 1")),
    ],
)
def test_flags_that_do_not_go_together(given, words, refused):
    with refused(*words):
        make_options(given)


def test_no_model(place, refused, tmp_path):
    with refused("--colmap", "no such folder"):
        run(place, colmap=place / "none")
    (place / "empty").mkdir()
    with refused("--colmap", "found none", "sparse/0"):
        run(place, colmap=place / "empty")
    for part in ("0", "1"):
        sets.write_colmap_text(place / "parts" / part, TAKEN)
    with refused("--colmap", "expected one model, found 2 (0, 1)"):
        run(place, colmap=place / "parts")
    (place / "sparse" / "images.txt").write_text("# nothing\n")
    with refused("--colmap", "found none", "mapper"):
        run(place)


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1 OPENCV 24", "1 PANORAMA 24", ("pycolmap cannot read", "model")),
        ("1 OPENCV 24", "1 PINHOLE 24", ("pycolmap cannot read",)),
        ("1 OPENCV 24 16 21.6", "1 OPENCV 24 16 nan", ("pycolmap cannot read",)),
        ("1 OPENCV 24 16 21.6", "1 OPENCV 24 16 -21.6", ("camera 1", "focal")),
    ],
)
def test_damaged_cameras(place, refused, old, new, words):
    edit(place / "sparse" / "cameras.txt", old, new)
    with refused("--colmap", *words):
        run(place)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_binary_model_that_is_cut_off(place, refused, name):
    import pycolmap

    model = pycolmap.Reconstruction(place / "sparse")
    (place / "binary").mkdir()
    model.add_point3D(np.zeros(3), pycolmap.Track(), np.zeros(3, np.uint8))
    model.write_binary(place / "binary")
    path = place / "binary" / f"{name}.bin"
    path.write_bytes(path.read_bytes()[: 8 if name == "points3D" else 30])
    with refused("--colmap", f"whole {name}.bin"):
        run(place, colmap=place / "binary")


def test_missing_photographs(place, refused):
    with refused("--images", "no such folder"):
        run(place, images=place / "none")
    with refused("--colmap", "and 2 more photographs, found none", "--images"):
        run(place, images=place / "sparse")
    with refused("--transforms", "and 2 more photographs, found none", "--images"):
        run(place, "transforms", images=place / "sparse")
    (place / "images" / TAKEN[1].name).rename(place / "images" / "day0" / "other.png")
    for kind in ("colmap", "transforms"):
        said = run(place, kind, out=place / "out", overwrite=True)
        assert f"note: 1 photograph of 3 have no file and are left out: {TAKEN[1].name}" in said
    assert any("1 picture of" in line and "other.png" in line for line in run(place, overwrite=True))
    assert list_ids(place / "out") == [0, 1]


def test_photographs_of_other_proportions(place, refused):
    path = place / "images" / TAKEN[1].name
    whole = path.read_bytes()
    PillowImage.new("RGB", (16, 24)).save(path)
    with refused(TAKEN[1].name, "24x16", "found 16x24", "cropped"):
        run(place)
    assert not (place / "out").exists()
    path.write_bytes(whole[: len(whole) // 2])
    with refused(TAKEN[1].name, "decoded"):
        run(place)
    assert list_ids(place / "out", "extrinsics") == [0]  # the view before it is whole


def test_float_photographs_are_no_frames(place, refused):
    import cv2

    path = place / "images" / TAKEN[0].name
    cv2.imwrite(str(path.with_suffix(".hdr")), np.ones((16, 24, 3), np.float32))
    path.with_suffix(".hdr").rename(path)
    with refused(TAKEN[0].name, "found float"):
        run(place)


def test_masks_that_are_missing_or_of_another_size(place, refused):
    with refused("--masks", "no such folder"):
        run(place, masks=place / "none")
    sets.write_mask(place / "masks" / f"{TAKEN[0].name}.png", np.ones((16, 24), bool))
    with refused("--masks", f"{TAKEN[1].name}.png", "2 photographs of 3"):
        run(place, masks=place / "masks")
    for shot in TAKEN:
        sets.write_mask(place / "masks" / f"{shot.name}.png", np.ones((16, 23), bool))
    with refused(f"{TAKEN[0].name}.png", "24x16", "23x16"):
        run(place, masks=place / "masks")
    content = json.loads((place / "images" / "transforms.json").read_text())
    content["frames"][0]["mask_path"] = "masks/none.png"
    (place / "images" / "transforms.json").write_text(json.dumps(content))
    with refused("--transforms", "none.png", "--masks"):
        run(place, "transforms")


def test_folders_that_all_photographs_share_may_lack_in_the_masks(place, refused):
    """The file_path of most transforms.json begins with images/; where it is absolute it leads out of --masks."""
    shown = {shot.name: Path("masks", Path(shot.name).name) for shot in TAKEN}
    for number, mask in enumerate(shown.values()):
        sets.write_mask(place / mask, np.arange(24)[None].repeat(16, 0) < 8 + number)
    path = place / "images" / "transforms.json"
    content = json.loads(path.read_text())
    for start in (".", str(place / "images")):
        for frame, shot in zip(content["frames"], TAKEN):
            frame["file_path"] = f"{start}/{shot.name}"
        path.write_text(json.dumps(content))
        photos = find_masks(place / "masks", read_transforms(path, None, print))
        assert [photo.mask for photo in photos] == [place / mask for mask in shown.values()]
    with refused("--masks", "img_00.png.png"):  # a photograph is not its own mask
        find_masks(place / "images", photos)


def test_photographs_and_masks_that_were_written_again(place, refused):
    """Views of the old ones are not taken for views of the new ones, and --overwrite replaces them."""
    for shot in TAKEN:
        sets.write_mask(place / "masks" / shot.name, np.ones((16, 24), bool))
    run(place, masks=place / "masks")
    sets.write_mask(place / "masks" / TAKEN[1].name, np.zeros((16, 24), bool))
    with refused("--out", "written again", "--overwrite"):
        run(place, masks=place / "masks")
    run(place, masks=place / "masks", overwrite=True)
    assert (np.load(place / "out" / "uv" / "0001.npy") == 65535).all()


def test_a_full_disk(place, refused, monkeypatch):
    """It leaves the earlier views, also with --overwrite, which counts them as room, and makes no folders."""
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(importer.shutil, "disk_usage", lambda path: usage)
    with refused("--out", "found 100 bytes", "--max_size"):
        run(place)
    assert not (place / "out").exists()
    usage.free = 10**6
    run(place)
    usage.free = 100
    with refused("--out", "another disk", "--max_size"):
        run(place, overwrite=True, per_pixel=True)
    assert list_ids(place / "out") == list_ids(place / "out", "frame") == [0, 1, 2]
    assert any(line.startswith("3 views") for line in run(place, overwrite=True, max_size=12))


def test_workers_end_with_a_caller_who_is_killed(place):
    script = f"""
import os, signal
from pathlib import Path
from deferred.meshes import load_placed_mesh
from deferred.photos import importer
from deferred.photos.pictures import find_masks
from deferred.photos.transforms import read_transforms
from deferred.photos.views import Caster, Workers
if __name__ == "__main__":
    folder = Path({str(place)!r})
    with Workers(Caster(load_placed_mesh(folder / "box.obj", ""), "own"), 2) as workers:
        photos = read_transforms(folder / "images" / "transforms.json", None, print)
        assert len(list(workers.look(photos))) == len(photos)
        print("working", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
"""
    (place / "call.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*python(), place / "call.py"], capture_output=True, text=True, timeout=120,
                          env=environment)  # fmt: skip  # returns once every process has closed its output
    assert done.returncode == -signal.SIGTERM and done.stdout == "working\n"


def test_a_mesh_elsewhere(place, refused):
    far = np.eye(4)
    far[:3, 3] = 1000
    with refused("--mesh", "0 of 3 see", "(1029, 978.8, 1006)", "cameras at (", "--mesh_transform"):
        run(place, mesh_transform=json.dumps(far.tolist()))
    behind = np.eye(4)
    behind[:3, 3] = 3 * (TAKEN[0].position - sets.PLACE)
    sets.write_colmap_text(place / "sparse", TAKEN[:1])  # a single camera, which has it at its back
    with refused("--mesh", "0 of 1 see"):
        run(place, mesh_transform=json.dumps(behind.tolist()))
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    "given",
    ["[[1, 2], [3, 4]]", "[[1, 0", "none.txt", json.dumps(np.zeros((4, 4)).tolist()),
     "[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,1]]", "[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,1,1]]"],
)  # fmt: skip
def test_bad_matrices(place, refused, given):
    with refused("--mesh_transform"):
        run(place, mesh_transform=given)


def test_meshes_that_will_not_do(place, refused):
    lines = (place / "box.obj").read_text().splitlines()
    bare = [line.replace("/", " ").split() for line in lines if not line.startswith("vt")]
    (place / "bare.obj").write_text("\n".join(" ".join([w[0], *w[1::2]] if w[0] == "f" else w) for w in bare))
    with refused("--mesh", "uv coordinates", "without them", "docs/deferred.md"):
        run(place, mesh=place / "bare.obj")
    tiles = [f"vt {float(line.split()[1]) * 2} {line.split()[2]}" if line.startswith("vt") else line for line in lines]
    (place / "tiles.obj").write_text("\n".join(tiles))
    with refused("--mesh", "0 to 1", "UDIM"):
        run(place, mesh=place / "tiles.obj")
    for name, grey in (("one", 10), ("two", 200)):
        PillowImage.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) + grey).save(place / f"{name}.png")
    (place / "two.mtl").write_text("newmtl one\nmap_Kd one.png\nnewmtl two\nmap_Kd two.png\n")
    faces = [line for line in lines if line.startswith("f")]
    rest = [line for line in lines if not line.startswith("f")]
    parts = ["mtllib two.mtl", *rest, "usemtl one", *faces[:6], "usemtl two", *faces[6:]]
    (place / "two.obj").write_text("\n".join(parts))
    with refused("--mesh", "expected one texture, found 2"):
        run(place, mesh=place / "two.obj")
    (place / "two.mtl").write_text("newmtl one\nmap_Kd one.png\nnewmtl two\nmap_Kd one.png\n")  # one atlas, two parts
    assert any(line.startswith("3 views") for line in run(place, mesh=place / "two.obj"))


# --- transforms.json -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": []}, ("frames", "empty list")),
        ({"frames": [{"transform_matrix": np.eye(4).tolist()}]}, ("frame 0", "file_path")),
        ({"frame": {"transform_matrix": [[1, 2], [3, 4]]}}, ("frame 0", "transform_matrix")),
        ({"frame": {"transform_matrix": (2 * np.eye(4)).tolist()}}, ("frame 0", "scales by 2")),
        ({"frame": {"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}}, ("frame 0", "mirrors")),
        ({"frame": {"camera_model": "THIN_PRISM"}}, ("frame 0", "camera_model", "THIN_PRISM")),
        ({"frame": {"k4": 0.1}}, ("frame 0", "k4 = 0.1")),
        ({"frame": {"camera_model": "PINHOLE"}}, ("frame 0", "no distortion", "k1")),
        ({"frame": {"fl_x": "wide"}}, ("frame 0", "fl_x")),
        ({"frame": {"fl_x": None, "fl_y": None}}, ("frame 0", "fl_x or camera_angle_x")),
        ({"frame": {"fl_x": -3.0}}, ("frame 0", "focal")),
        ({"frame": {"w": 24.5}}, ("frame 0", "whole pixels")),
        ({"frame": {"w": 10**400}}, ("frame 0", "a number for w")),
        ({"frame": {"fl_x": 10**400}}, ("frame 0", "a number for fl_x")),
    ],
)
def test_bad_transforms(place, refused, change, words):
    path = place / "images" / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][0].update(change.pop("frame", {}))
    path.write_text(json.dumps({**content, **change}))
    with refused("--transforms", *words):
        run(place, "transforms")
    assert not (place / "out").exists()


def test_a_path_without_a_name_is_a_photograph_that_is_missing(place):
    path = place / "images" / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][0]["file_path"] = "/"
    path.write_text(json.dumps(content))
    assert "1 photograph of 3 have no file" in run(place, "transforms")[0]


def test_files_that_are_no_transforms(place, refused):
    path = place / "images" / "transforms.json"
    with refused("--transforms", "cannot be opened"):
        run(place, "transforms", transforms=place / "none.json")
    for text in ("[1, 2]", "{not json", "\x00"):
        path.write_text(text)
        with refused("--transforms", "JSON"):
            run(place, "transforms")


def test_words_of_other_programs(place):
    """instant-ngp's is_fisheye, one camera for all, a suffix that is missing, Windows' slashes, applied_transform."""
    path = place / "images" / "transforms.json"
    frames = [{"file_path": shot.name.removesuffix(".png").replace("/", "\\"), "transform_matrix": np.eye(4).tolist()}
              for shot in TAKEN]  # fmt: skip
    common = {"fl_x": 20, "k1": 0.1, "k2": 0.01, "k3": 0, "k4": 0, "p1": 0, "p2": 0}
    said: list[str] = []
    path.write_text(json.dumps({**common, "is_fisheye": True, "frames": frames, "aabb_scale": 16,
                                "applied_transform": np.eye(4)[:3].tolist()}))  # fmt: skip
    photo = read_transforms(path, None, said.append)[0]
    assert photo.lens.model == "OPENCV_FISHEYE" and photo.lens.params == (20, 20, 12, 8, 0.1, 0.01, 0, 0)
    assert photo.path == place / "images" / TAKEN[0].name and photo.name == TAKEN[0].name
    assert np.array_equal(photo.rotation, np.diag([1, -1, -1])) and "applied_transform" in said[0]
    path.write_text(json.dumps({**common, "k3": 0.001, "fl_y": 21, "camera_angle_x": 1.0, "cx": 11, "frames": frames}))
    photo = read_transforms(path, None, said.append)[0]
    assert photo.lens.model == "FULL_OPENCV" and photo.lens.params == (20, 21, 11, 8, 0.1, 0.01, 0, 0, 0.001, 0, 0, 0)


def test_photographs_of_more_pixels_than_are_read(place, refused, monkeypatch):
    """--max_pixels raises that limit, but not the one of frames, which training reads."""
    for kind in ("colmap", "transforms"):
        with refused("24x16 = 384", "--max_pixels"):
            run(place, kind, max_pixels=383)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 300)
    with refused("24x16 = 384", "--max_size 21 or less"):
        run(place)
    assert not (place / "out").exists()
    assert any("3 views of 21x14" in line for line in run(place, max_size=21))
