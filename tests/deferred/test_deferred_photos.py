"""prepare.py --colmap and --transforms: uv maps and directions of photographs, against OpenCV and a formula."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from deferred.dataset.frames import FrameSet
from deferred.meshes import read_matrix
from deferred.photos.importer import in_order
from deferred.photos.lenses import Lens, Photo, picture_rays, pixel_rays
from deferred.photos.pictures import Picture
from deferred.prepare import make_options, prepare
from tests.support import photo_sets as sets

pytest.importorskip("trimesh", reason="trimesh is not installed: pip install -r requirements/deferred.txt")
TEXTURE = 256  # texels: errors are given in those of a texture of this size
TAKEN = sets.shots()


def need_pycolmap():
    return pytest.importorskip("pycolmap", reason="pycolmap is not installed: pip install -r requirements/deferred.txt")


def imported(out, **given) -> tuple[FrameSet, list[dict], list[str]]:
    """Views of an import into `out`, what views.json says about each, and what the command said."""
    said: list[str] = []
    given = {name: str(value) if name not in OWN_TYPES else value for name, value in given.items()}
    prepare(make_options({"out": str(out), "jobs": 1, **given}), out, said.append)
    views = json.loads((out / "views.json").read_text())["views"]
    return FrameSet(out, range(len(views))), views, said


OWN_TYPES = ("jobs", "max_size", "scale", "per_pixel", "overwrite")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs, their cameras as COLMAP's text and as transforms.json, and the box."""
    folder = tmp_path_factory.mktemp("photos")
    sets.write_photos(folder / "images", TAKEN)
    sets.write_colmap_text(folder / "sparse" / "0", TAKEN)
    sets.write_transforms(folder / "images" / "transforms.json", TAKEN)
    sets.write_obj(folder / "box.obj")
    return folder


def colmap(place, **more):
    need_pycolmap()
    return {"colmap": place / "sparse", "images": place / "images", "mesh": place / "box.obj", **more}


def transforms(place, **more):
    need_pycolmap()
    return {"transforms": place / "images" / "transforms.json", "mesh": place / "box.obj", **more}


def by_name(taken):
    return {shot.name: shot for shot in taken}


def check_views(frames: FrameSet, views: list[dict], taken=TAKEN) -> None:
    """uv maps within a hundredth of a texel of the formula; OpenCV takes the points of their uv back to the pixels."""
    assert sorted(view["image"] for view in views) == sorted(shot.name for shot in taken)
    for number, view in enumerate(views):
        shot, frame = by_name(taken)[view["image"]], frames.load(number)
        true = shot.uv
        known = np.isfinite(true[..., 0])
        assert 0.2 < known.mean() < 0.9 and (known != frame.mask).sum() <= 2  # along the outline rounding decides
        both = known & frame.mask
        texels = np.abs(frame.uv[both] - true[both]).max() * TEXTURE
        assert texels < 0.01
        points = sets.surface(frame.uv[both].astype(np.float64))
        y, x = np.nonzero(both)
        assert np.abs(shot.project(points) - np.stack([x + 0.5, y + 0.5], axis=1)).max() < 0.01
        assert np.abs(frame.image[both][:, :2] - true[both]).max() < 1e-4  # the photograph itself, not resampled
        away = shot.position - (points if frame.direction.shape[0] > 1 else sets.PLACE)
        away /= np.linalg.norm(away, axis=-1, keepdims=True)
        found = frame.direction[both] if frame.direction.shape[0] > 1 else frame.direction[0, 0]
        assert np.abs(found - away).max() < 1e-4  # of uv with 16 bits
        assert not frame.image[~frame.mask].any()


def test_colmap_text(place, tmp_path):
    frames, views, said = imported(tmp_path, **colmap(place), caster="own")
    check_views(frames, views)
    assert frames.load(0).direction.shape == (1, 1, 3) and "54% of the pixels" in said[-3]
    assert views[7]["split"] == "held out" and views[7]["image"] == TAKEN[4].name and said[-2].startswith("7, every")


def test_colmap_binary_by_its_own_writer_in_processes(place, tmp_path):
    """Cameras, rigs and frames as pycolmap makes them, two photographs by one camera, and one without a pose."""
    pycolmap = need_pycolmap()
    model = pycolmap.Reconstruction()
    taken = [*TAKEN, replace(TAKEN[1], name="again.png", position=TAKEN[3].position)]
    sets.write_photos(tmp_path / "images", taken)
    for number, shot in enumerate(TAKEN, 1):
        model.add_camera_with_trivial_rig(pycolmap.Camera(
            model=shot.model, width=shot.width, height=shot.height, params=[*shot.focal, *shot.centre, *shot.terms],
            camera_id=number))  # fmt: skip
    for number, shot in enumerate(taken, 1):
        camera = number if number <= len(TAKEN) else 2
        turn = shot.rotation.T
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(turn), turn @ -shot.position)
        model.add_image_with_trivial_frame(pycolmap.Image(name=shot.name, camera_id=camera, image_id=number), pose)
    (tmp_path / "images" / "blurred.png").write_bytes((place / "images" / TAKEN[0].name).read_bytes())
    (tmp_path / "model").mkdir()
    model.write_binary(tmp_path / "model")
    given = {"colmap": tmp_path / "model", "images": tmp_path / "images", "mesh": place / "box.obj", "jobs": 2}
    frames, views, said = imported(tmp_path / "out", **given, per_pixel=True)
    check_views(frames, views, taken)
    assert "1 picture" in said[0] and "no pose in the model and are left out: blurred.png" in said[0]
    assert frames.load(0).direction.shape == (40, 64, 3)


def test_transforms(place, tmp_path):
    frames, views, _ = imported(tmp_path, **transforms(place))
    check_views(frames, views)


def test_pinholes_need_no_pycolmap(place, tmp_path, monkeypatch):
    """The layout of NeRF's synthetic scenes: an angle for all, no size, no suffix; and alpha."""
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    simple = {"model": "OPENCV", "terms": (0, 0, 0, 0), "focal": (50.0, 50.0), "centre": (32.0, 20.0)}
    taken = [replace(shot, **simple) for shot in TAKEN]
    for shot in taken:
        uv = shot.uv
        colours = np.concatenate([np.nan_to_num(uv), np.zeros_like(uv)], axis=2)
        colours[..., 3] = np.isfinite(uv[..., 0]) & (np.arange(64) < 40)
        (tmp_path / shot.name).parent.mkdir(exist_ok=True)
        PillowImage.fromarray(np.round(colours * 255).astype(np.uint8)).save(tmp_path / shot.name)
    sets.write_transforms(tmp_path / "transforms_train.json", taken)
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    frames = [{"file_path": entry["file_path"].removesuffix(".png"), "rotation": 0.01,
               "transform_matrix": entry["transform_matrix"]} for entry in content["frames"]]  # fmt: skip
    content = {"camera_angle_x": 2 * np.arctan(0.5 * 64 / 50.0), "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    found, views, _ = imported(tmp_path / "out", transforms=tmp_path / "transforms_train.json", mesh=place / "box.obj")
    for number, view in enumerate(views):
        true, frame = by_name(taken)[view["image"]].uv, found.load(number)
        shown = np.isfinite(true[..., 0]) & (np.arange(64) < 40)
        assert (frame.mask != shown).sum() <= 2 and frame.mask.any()
        both = frame.mask & shown
        assert np.abs(frame.uv[both] - true[both]).max() * TEXTURE < 0.01
    with pytest.raises(Exception, match=r"OPENCV needs pycolmap, which is not installed; pip install -r req"):
        imported(tmp_path / "out2", transforms=place / "images" / "transforms.json", mesh=place / "box.obj")


def test_a_split_of_the_file(place, tmp_path):
    names = [f"./{shot.name}" for shot in TAKEN]
    path = sets.write_transforms(tmp_path / "t.json", TAKEN, train_filenames=names[2:], val_filenames=names[:1],
                                 test_filenames=names[1:2])  # fmt: skip
    _, views, said = imported(tmp_path / "out", **transforms(place, transforms=path), images=place / "images")
    assert [view["image"] for view in views[-2:]] == [TAKEN[0].name, TAKEN[1].name]
    assert said[-2].endswith("--train 0-5 --val 6-7")


# --- pictures ------------------------------------------------------------------------------------------------------


def inside(mask: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are all in the mask too."""
    padded = np.pad(mask, 1)
    return np.all([padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
                   for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)  # fmt: skip


@pytest.mark.parametrize("given", [{"max_size": 40}, {"scale": 0.5}, {"max_size": 1000, "scale": 0.7}], ids=str)
def test_shrunk_photographs(place, tmp_path, given):
    """Colours are uv coordinates: averaged over a pixel's area they are those of its centre, on a face of the box."""
    taken = sets.shots(2, 160, 100)
    sets.write_photos(tmp_path / "images", taken)
    sets.write_colmap_text(tmp_path / "sparse", taken)
    frames, views, _ = imported(tmp_path / "out", **{**colmap(tmp_path), "mesh": place / "box.obj"}, **given)
    width = {40: 40, 1000: 112}.get(given.get("max_size"), 80)
    worst = []
    for number, view in enumerate(views):
        assert view["size"] == [width, round(width * 100 / 160)]
        frame = frames.load(number)
        steps = [np.abs(np.diff(frame.uv, axis=axis, append=0)).max(axis=2) for axis in (0, 1)]
        smooth = inside(frame.mask & (np.max(steps, axis=0) < 0.1))  # no edge of the box under the pixel
        assert smooth.mean() > 0.2
        error = np.abs(frame.image[..., :2] - frame.uv)[smooth].max(axis=1)
        worst.append(np.quantile(error, 0.9) * TEXTURE)
    assert max(worst) < 0.5  # texels; half a pixel would be 1 to 3


def test_smaller_pictures_than_the_cameras(place, tmp_path):
    taken = sets.shots(3, 128, 80)
    sets.write_photos(tmp_path / "images", TAKEN[:3])  # the same cameras at half the size
    sets.write_colmap_text(tmp_path / "sparse", taken)
    frames, views, said = imported(tmp_path / "out", **{**colmap(tmp_path), "mesh": place / "box.obj"})
    check_views(frames, views, TAKEN[:3])
    assert "64x40 for 128x80; the cameras are scaled" in said[0]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation(place, tmp_path, orientation):
    """A phone's portrait: the pixels lie on their side in the file, and the camera's size says whether it matters."""
    shot = replace(TAKEN[0], width=40, height=64, centre=(19.0, 33.0), name="a.png")
    sets.write_photos(tmp_path / "upright", [shot])
    sets.write_colmap_text(tmp_path / "sparse", [shot])
    pixels = cv2.imread(str(tmp_path / "upright" / "a.png"), cv2.IMREAD_COLOR)
    stored = np.rot90(pixels, {1: 0, 3: 0, 6: 1, 8: 3}[orientation])
    picture = PillowImage.fromarray(np.ascontiguousarray(stored[..., ::-1]))
    exif = picture.getexif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images" / "a.png", exif=exif)
    frames, _, said = imported(tmp_path / "out", **{**colmap(tmp_path), "mesh": place / "box.obj"})
    frame, true = frames.load(0), shot.uv
    both = frame.mask & np.isfinite(true[..., 0])
    assert frame.size == (64, 40) and both.sum() > 300
    assert np.abs(frame.uv[both] - true[both]).max() * TEXTURE < 0.01
    assert np.abs(frame.image[both][:, :2] / 255 - true[both]).max() < 0.01
    expected = {1: "1 view", 3: "taken as stored", 6: "turned by their EXIF", 8: "turned by their EXIF"}[orientation]
    assert expected in said[0]


@pytest.mark.parametrize(("name", "value"), [("{}.png", 255), ("{stem}.png", 1)])
def test_masks(place, tmp_path, name, value):
    """Black is background, whatever the value of the rest; a mask may be named as COLMAP has it."""
    for shot in TAKEN:
        path = tmp_path / "masks" / name.format(shot.name, stem=shot.name.removesuffix(".png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(np.repeat(np.arange(64)[None] < 30, 40, 0).astype(np.uint8) * value).save(path)
    frames, views, _ = imported(tmp_path / "out", **colmap(place), masks=tmp_path / "masks", per_pixel=True)
    for number, view in enumerate(views):
        true, frame = by_name(TAKEN)[view["image"]].uv, frames.load(number)
        assert not frame.mask[:, 30:].any() and not frame.image[:, 30:].any()
        assert (frame.mask[:, :30] != np.isfinite(true[:, :30, 0])).sum() <= 2
        raw = np.load(frames.path("extrinsics", number))
        assert np.isnan(raw[~frame.mask]).all()


# --- meshes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ply, vertices", "ply, wedges", "glb"])
def test_other_mesh_files_have_the_same_uv(place, tmp_path, kind):
    mesh = tmp_path / f"box.{kind[:3]}"
    if kind == "glb":
        sets.write_glb(mesh)
    else:
        sets.write_ply(mesh, "wedges" in kind)
    check_views(*imported(tmp_path / "out", **colmap(place, mesh=mesh))[:2])


@pytest.mark.parametrize("kind", ["text", "npy", "json", "inline", "transforms"])
def test_a_mesh_that_was_moved_scaled_and_mirrored(place, tmp_path, kind):
    matrix = np.array([[0, 2.0, 0, 5], [2, 0, 0, -7], [0, 0, 2, 1], [0, 0, 0, 1]])  # its determinant is negative
    back = np.linalg.inv(matrix)
    lines = (place / "box.obj").read_text().splitlines()
    for index, line in enumerate(lines):
        if line.startswith("v "):
            point = matrix[:3, :3] @ np.array(line.split()[1:], float) + matrix[:3, 3]
            lines[index] = "v " + " ".join(f"{v:.9g}" for v in point)
        if line.startswith("f "):
            lines[index] = "f " + " ".join(line.split()[:0:-1])  # who mirrors a mesh keeps its outside outside
    (tmp_path / "moved.obj").write_text("\n".join(lines))
    given = tmp_path / f"matrix.{'npy' if kind == 'npy' else 'json' if kind in ('json', 'transforms') else 'txt'}"
    if kind == "npy":
        np.save(given, back)
    elif kind == "text":
        np.savetxt(given, back)
    else:
        rows = {"applied_transform": back[:3].tolist()} if kind == "transforms" else back.tolist()
        given.write_text(json.dumps(rows))
    given = given.read_text() if kind == "inline" else str(given)
    assert np.allclose(read_matrix(given), back)
    if kind == "inline":
        moved = colmap(place, mesh=tmp_path / "moved.obj", mesh_transform=given)
        check_views(*imported(tmp_path / "out", **moved)[:2])


def test_backs_of_triangles(place, tmp_path, refused):
    lines = (place / "box.obj").read_text().splitlines()
    turned = [" ".join(["f", *line.split()[:0:-1]]) if line.startswith("f ") else line for line in lines]
    (tmp_path / "inside out.obj").write_text("\n".join(turned))
    given = colmap(place, mesh=tmp_path / "inside out.obj")
    with refused("--mesh", "from behind", "--backfaces keep"):
        imported(tmp_path / "out", **given)
    check_views(*imported(tmp_path / "out", **given, backfaces="keep")[:2])
    half = [line for line in lines if not line.startswith("f ")] + [lines[-1], lines[-2]]
    (tmp_path / "open.obj").write_text("\n".join(half))  # one face: the others see nothing or its back
    frames, views, said = imported(tmp_path / "face", **colmap(place, mesh=tmp_path / "open.obj"))
    assert 0 < len(views) < len(TAKEN) and any("photographs see the mesh; left out" in line for line in said)
    for number, view in enumerate(views):
        true = by_name(TAKEN)[view["image"]].uv
        mine = np.nan_to_num(true[..., 0]) * 3 // 1 + 3 * (np.nan_to_num(1 - true[..., 1]) * 2 // 1) == 5
        assert (frames.load(number).mask != mine).sum() <= 2


# --- lenses, order, going on ---------------------------------------------------------------------------------------


def test_pixels_beyond_a_lens_have_no_ray():
    need_pycolmap()
    folded = Lens("RADIAL", 400, 300, (300.0, 200.0, 150.0, -0.4, 0.0))  # r - 0.4 r^3 turns back at r = 0.913
    rays = picture_rays(folded, 40, 30)
    y, x = np.mgrid[:30, :40] * 10 + 5.0
    radius = np.hypot(x - 200, y - 150) / 300
    limit = (1 / 1.2) ** 0.5 * (1 - 0.4 / 1.2)
    clear = np.abs(radius - limit) > 0.01
    assert np.array_equal(np.isfinite(rays[..., 0])[clear], radius[clear] < limit)
    wide = Lens("OPENCV_FISHEYE", 400, 300, (100.0, 100.0, 200.0, 150.0, 0.0, 0.0, 0.0, 0.0))
    rays = pixel_rays(wide, np.array([[200.0, 150.0], [250.0, 150.0], [200.0, 90.0], [399.0, 299.0]]))
    assert np.allclose(rays[:3], [[0, 0, 1], [np.sin(0.5), 0, np.cos(0.5)], [0, -np.sin(0.6), np.cos(0.6)]], atol=1e-6)
    assert np.isnan(rays[3]).all()


def test_every_seventh_photograph_is_held_out():
    lens = Lens("PINHOLE", 4, 3, (4.0, 4.0, 2.0, 1.5))
    pictures = [Picture(Photo(str(n), None, lens, np.eye(3), np.zeros(3)), (4, 3), (4, 3)) for n in range(20)]
    order, held = in_order(pictures)
    names = [int(picture.photo.name) for picture in order]
    assert held == 2 and names[-2:] == [5, 15] and names[:-2] == sorted(names[:-2])
    assert in_order(pictures[:3]) == (pictures[:3], 0)


def test_an_interrupted_import_goes_on(place, tmp_path, monkeypatch, refused):
    from deferred.photos.views import Views

    write, done = Views.write, []

    def interrupted(self, job):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job)
        return write(self, job)

    with monkeypatch.context() as patched:
        patched.setattr(Views, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path, **colmap(place))
    (tmp_path / "extrinsics" / "0002.npy").unlink()  # as if it had ended inside a view
    kept = (tmp_path / "uv" / "0001.npy").stat().st_mtime_ns
    frames, views, said = imported(tmp_path, **colmap(place))
    check_views(frames, views)
    assert said[0].startswith("2 of 8 views are there") and (tmp_path / "uv" / "0001.npy").stat().st_mtime_ns == kept
    with refused("--out", "8 views of others", "--overwrite"):
        imported(tmp_path, **colmap(place), max_size=32)
    frames, views, _ = imported(tmp_path, **colmap(place), max_size=32, overwrite=True)
    assert frames.load(0).size == (20, 32)
