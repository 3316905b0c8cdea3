"""Frames, uv maps and directions of an object for training and rendering: rendered here, or from photographs.

    python prepare.py --scene sphere --out data/sphere                                 (inside deferred/)
    python -m deferred.prepare --mesh chair.obj --texture chair.png --out data/chair   (in the repository's root)
    python prepare.py --scene sphere --path orbit --frames 100 --out data/orbit        (views for a video)
    python prepare.py --colmap sparse/0 --images images --mesh model.obj --out data/statue          (photographs)

Every option: python prepare.py --help.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import write_array
from common.errors import Say, UserError, quote, run_command
from common.files import make_folder, write_bytes, write_json
from common.knobs import OneLineParser, add_flags, check_values, knob
from configs import MAX_PIXELS, MOST_PIXELS
from deferred.dataset.uv_maps import UV_TYPES, uv_type, write_uv
from deferred.meshes import TextureAlbedo, load_mesh, torus
from deferred.options import SETTINGS_FILE, numbers
from deferred.photos.views import BACKFACES
from deferred.raycast import CASTERS, MeshGeometry
from deferred.scene import (
    Albedo,
    Camera,
    Geometry,
    Light,
    Sphere,
    camera_positions,
    render_view,
    sample_albedo,
    turn_upright,
)
from maps.images import encode_png, read_image

SAMPLE = Path(__file__).resolve().parent / "data" / "sample"
NO_TEXTURE = "none"  # of --texture
PATHS = ("random", "orbit")
SCENES = ("sphere", "torus")
# Settings for the sample's 120 views of 64x64 (docs/deferred.md); the defaults are for 899 larger frames.
_TEXTURE = {"texturew": 256, "textureh": 128}
_SHORT = {"batch": 4, "lr": 0.01}
ADVICE = {
    "train": {**_TEXTURE, "unet_width": 16, **_SHORT, "epoch": 55},
    "train_texture": {**_TEXTURE, "batch": 2, "lr": 0.02, "epoch": 12},
    "train_unet": {"unet_width": 16, **_SHORT, "epoch": 30},
}


@dataclass(frozen=True)
class PrepareOptions:
    """What to render. Field order is the order of `--help`; the defaults render the sample.

    Light, colours and views of the sample were chosen so that the baselines score what the specification gives for them
    (docs/deferred.md).
    """

    out: str = knob("", "folder that receives frame/, uv/ and extrinsics/; empty: the sample's", unit="path")
    scene: str = knob("sphere", "built-in object", choices=SCENES)
    mesh: str = knob("", "in its place a mesh with uv coordinates: .obj, .glb, .ply...", unit="path")
    mesh_transform: str = knob("", "matrix of 4 by 4 that moves the mesh: a file or JSON")
    texture: str = knob("", "image for the mesh; empty: its own; none: no frames, for render.py", unit="path")
    frames: int = knob(140, "number of views", low=1, high=100_000)
    width: int = knob(64, "width of a view", unit="pixels", low=1, high=8192)
    height: int = knob(64, "height of a view", unit="pixels", low=1, high=8192)
    path: str = knob("random", "random: views from anywhere; orbit: around the object", choices=PATHS)
    turns: float = knob(1.0, "turns of an orbit", low=-1000.0, high=1000.0)
    up: str = knob("0, 1, 0", "direction that is up in the mesh: x, y, z")
    elevation: str = knob("-11.5, 68.8", "lowest and highest elevation of the camera", unit="degrees")
    distance: float = knob(3.0, "of the camera from the centre", unit="radii of the object", low=1.01, high=1000.0)
    fov: float = knob(45.0, "field of view along the height", unit="degrees", low=1.0, high=160.0)
    light: str = knob("0.3, 0.9, 0.2", "direction to the light: x, y, z, with y for --up")
    ambient: float = knob(0.25, "light from everywhere", low=0.0, high=10.0)
    diffuse: float = knob(0.65, "light of the matte part", low=0.0, high=10.0)
    specular: float = knob(0.5, "light of the glossy part", low=0.0, high=10.0)
    exponent: float = knob(4.0, "Phong exponent; higher is sharper", low=0.5, high=10_000.0)
    uv_type: str = knob("auto", "numbers of the uv maps; auto: uint16, for a mesh's texture above 4096 texels float32",
                        choices=UV_TYPES)  # fmt: skip
    per_pixel: bool = knob(False, "directions for each pixel instead of one for the view")
    caster: str = knob("auto", "ray caster for meshes; auto: embree if it is installed", choices=CASTERS)
    seed: int = knob(1, "of random numbers: the views", low=0, high=2**31)

    colmap: str = knob("", "folder of a COLMAP model, text or binary: the cameras of photographs", unit="path",
                       section="photographs, with --mesh in the place where their cameras are")  # fmt: skip
    transforms: str = knob("", "in its place a transforms.json: NeRF, instant-ngp, nerfstudio", unit="path")
    images: str = knob("", "folder of the photographs; empty: that of the transforms.json", unit="path")
    masks: str = knob("", "folder of masks, 0 where the background is: a.jpg.png or a.png for a.jpg", unit="path")
    max_size: int = knob(0, "shrink photographs to this longer side; 0: as they are", unit="pixels", low=0, high=65536)
    scale: float = knob(1.0, "shrink photographs by this factor", low=0.001, high=1.0)
    max_pixels: int = knob(MAX_PIXELS, "largest photograph or mask to read", unit="pixels", low=1, high=MOST_PIXELS)
    backfaces: str = knob("skip", "rays that hit the back of a triangle first; skip: no surface", choices=BACKFACES)
    jobs: int = knob(0, "processes; 0: as many as cores, memory and photographs allow", low=0, high=1024)
    overwrite: bool = knob(False, "replace other views in --out")


PHOTO_FIELDS = ("colmap", "transforms", "images", "masks", "max_size", "scale", "max_pixels", "backfaces",
                "jobs", "overwrite")  # fmt: skip
SHARED_FIELDS = ("out", "mesh", "mesh_transform", "uv_type", "per_pixel", "caster")  # of both
FIELDS = {field.name: field for field in dataclasses.fields(PrepareOptions)}


def build_parser() -> argparse.ArgumentParser:
    """A parser with one flag per field. Flags that are not given are absent from its result."""
    parser = OneLineParser(prog="prepare.py", description="Frames, uv maps and directions, rendered or of photographs.")
    add_flags(parser, FIELDS)
    return parser


def make_options(given: Mapping[str, object]) -> PrepareOptions:
    """Validated options. Raises: UserError."""
    options = PrepareOptions(**check_values(FIELDS, given))
    if options.colmap or options.transforms:
        _check_photographs(options, given)
        return options
    photo = next((name for name in PHOTO_FIELDS if name in given), None)
    if photo:
        raise UserError(f"--{photo}: expected --colmap or --transforms beside it, found neither; it is for photographs")
    if not options.mesh and (options.texture or options.mesh_transform):
        flag = "--texture" if options.texture else "--mesh_transform"
        raise UserError(f"{flag}: expected --mesh beside it, found none; the built-in scenes have colours and places "
                        "of their own")  # fmt: skip
    if options.mesh and "scene" in given:
        raise UserError(f"--mesh and --scene {options.scene}: each is an object; give one of them")
    if not options.out and options != PrepareOptions(caster=options.caster):
        raise UserError("--out: expected a folder for views that are not the sample's, found none; give one")
    return options


def _check_photographs(options: PrepareOptions, given: Mapping[str, object]) -> None:
    """Raises: UserError for flags that do not go with photographs, or are missing."""
    source = "--colmap" if options.colmap else "--transforms"
    if options.colmap and options.transforms:
        raise UserError("--colmap and --transforms: each has the cameras; give one of them")
    other = next((name for name in given if name not in PHOTO_FIELDS + SHARED_FIELDS), None)
    if other:
        raise UserError(f"--{other} and {source}: it is for views that are rendered, and photographs are there; leave "
                        "one of them out")  # fmt: skip
    if not options.mesh:
        raise UserError(f"{source}: expected --mesh beside it, found none; give a mesh of what the photographs show, "
                        "with uv coordinates")  # fmt: skip
    if options.colmap and not options.images:
        raise UserError("--colmap: expected --images beside it, found none; give the folder of the photographs")
    if not options.out:
        raise UserError("--out: expected a folder for the views of the photographs, found none; give one")


def make_scene(options: PrepareOptions) -> tuple[Geometry, Albedo | None]:
    """The object and its colours, None for --texture none. Raises: UserError."""
    if not options.mesh:
        geometry = Sphere() if options.scene == "sphere" else MeshGeometry(torus(), options.caster)
        return geometry, sample_albedo
    mesh, own = load_mesh(Path(options.mesh), options.mesh_transform)
    if options.texture == NO_TEXTURE:
        return MeshGeometry(mesh, options.caster), None
    if options.texture:
        own = read_image(options.texture).pixels
        if own.dtype != np.uint8:
            raise UserError(
                f"--texture {quote(options.texture)}: expected 8 bits a channel, found {own.dtype}; convert it"
            )
        own = np.broadcast_to(own, (*own.shape[:2], 3))
    if own is None:
        raise UserError(
            f"--mesh {quote(options.mesh)}: expected a mesh with a texture, found none in it; give --texture FILE, "
            f"or --texture {NO_TEXTURE} for uv maps and directions without frames, which render.py takes"
        )
    return MeshGeometry(mesh, options.caster), TextureAlbedo(own)


def _direction(text: str, flag: str) -> np.ndarray:
    """(3,) unit vector. Raises: UserError."""
    direction = np.array(numbers(text, flag, 3, low=-math.inf))
    if not np.linalg.norm(direction) > 0:
        raise UserError(f"{flag}: expected a direction, got {text}")
    return direction / np.linalg.norm(direction)


def prepare(options: PrepareOptions, folder: Path, say: Say = print) -> None:
    """Render every view, or import every photograph, into `folder`. Raises: UserError."""
    if options.colmap or options.transforms:
        from deferred.photos.importer import Source, import_photographs

        names = [field.name for field in dataclasses.fields(Source)]
        import_photographs(Source(**{name: getattr(options, name) for name in names}), folder, say)
        return
    from common.events import progress_bar
    from deferred.dataset.frames import FOLDERS, list_ids
    from deferred.util import id_name
    from metrics.pictures import display_pixels

    low, high = numbers(options.elevation, "--elevation", 2, low=-math.inf)
    if not -90 <= low <= high <= 90:
        raise UserError(
            f"--elevation: expected two angles from -90 to 90, the lower one first, got {options.elevation}"
        )
    to_light, up = (_direction(getattr(options, name), f"--{name}") for name in ("light", "up"))
    turn = turn_upright(up)
    geometry, albedo = make_scene(options)
    light = Light(turn @ to_light, options.ambient, options.diffuse, options.specular,
                  options.exponent)  # fmt: skip
    random = np.random.default_rng(options.seed)
    positions = camera_positions(
        options.path, options.frames, options.distance, (math.radians(low), math.radians(high)), options.turns, random
    )
    if albedo is None and list_ids(folder, "frame"):
        raise UserError(f"--out {quote(folder)}: expected a folder without frames, which --texture {NO_TEXTURE} does "
                        "not write, found some of other views; give another")  # fmt: skip
    for kind in FOLDERS if albedo else ("uv", "extrinsics"):
        make_folder(folder / kind)
    texels = max(albedo.values.shape[:2]) if isinstance(albedo, TextureAlbedo) else 0
    covered, kind = 0, uv_type(options.uv_type, texels)
    with progress_bar(options.frames, 0) as bar:
        bar.set_description("rendering")
        for number, position in enumerate(positions):
            position = turn @ position
            camera = Camera(position, math.radians(options.fov), options.height, options.width, tuple(up))
            image, uv, to_camera = render_view(geometry, albedo or sample_albedo, light, camera)
            covered += int(np.isfinite(uv[..., 0]).sum())
            if albedo:
                write_bytes(folder / "frame" / f"{id_name(number)}.png", encode_png(display_pixels(image)))
            write_uv(folder / "uv" / f"{id_name(number)}.npy", uv, kind)
            seen = to_camera if options.per_pixel else (position / np.linalg.norm(position)).astype(np.float32)
            write_array(folder / "extrinsics" / f"{id_name(number)}.npy", seen)
            bar.update(1)
    same = {name: getattr(options, name) for name in ("out", "scene", "caster", "per_pixel", "seed", "uv_type")}
    if options == PrepareOptions(**same):
        write_json(folder / SETTINGS_FILE, ADVICE)
    elif (folder / SETTINGS_FILE).is_file():
        say(f"note: {quote(folder / SETTINGS_FILE)} is from earlier views, and training takes its settings from it")
    others = [number for number in list_ids(folder) if number >= options.frames]
    if others:
        say(f"note: {quote(folder)} also holds {len(others)} earlier views, from {id_name(others[0])} on")
    share = covered / (options.frames * options.height * options.width)
    say(f"{options.frames} views of {options.width}x{options.height} in {quote(folder)}, {share:.0%} of the pixels on "
        "the object")  # fmt: skip


def data_folder(given: str, say: Say = print) -> Path:
    """The folder of --data; '': that of the sample, which is rendered at the first call."""
    if given:
        return Path(given)
    if not (SAMPLE / SETTINGS_FILE).is_file():  # the last file that prepare writes
        say(f"rendering the sample into {quote(SAMPLE)}")
        prepare(PrepareOptions(), SAMPLE, say)
    return SAMPLE


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = make_options(vars(build_parser().parse_args(argv)))
    prepare(options, Path(options.out) if options.out else SAMPLE)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
