"""Make the sample materials, no photograph used: a brick wall (data/test), or ivy with glowing buds (data/test_leaves).

    python data/make_test_material.py                       the wall, 1024 x 1024
    python data/make_test_material.py --material leaves     the ivy, 512 x 512: opacity, and an EXR of its glow
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script: the repository root is not on it

from common.errors import run_command
from common.files import staged_folder
from data import wall
from maps.exr import encode_exr


def make_leaves(size: int, seed: int) -> dict[str, np.ndarray]:
    """leaves.make_maps, whose module imports PyTorch."""
    from data import leaves

    return leaves.make_maps(size, seed)


MATERIALS = {  # name -> maker of the maps, texels to a side, seed, folder, first part of the file names
    "wall": (wall.make_maps, 1024, 11, Path("data/test"), "Test"),
    "leaves": (make_leaves, 512, 5, Path("data/test_leaves"), "Leaves"),
}


def write_maps(maps: dict[str, np.ndarray], folder: Path, prefix: str) -> None:
    """Write each map as <prefix>_<name>.png of 8 bits, or .exr where its values are float16, replacing old files only
    once all are complete."""
    with staged_folder(folder) as stage:
        for name, image in maps.items():
            if image.dtype == np.float16:
                (stage / f"{prefix}_{name}.exr").write_bytes(encode_exr(image, half=True))
            else:
                codes = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
                Image.fromarray(codes).save(stage / f"{prefix}_{name}.png", "PNG", optimize=True)
        written = sorted(path.name for path in stage.iterdir())
    for name in written:
        print(f"{folder / name}  {(folder / name).stat().st_size / 1e6:.2f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, make the maps, write them; 0 on success."""
    parser = argparse.ArgumentParser(description="Make a sample material: a brick wall with iron fixings, or ivy.")
    parser.add_argument("--material", choices=list(MATERIALS), default="wall", help="which one (default: %(default)s)")
    parser.add_argument("--size", type=int, help="texels to a side (default: wall 1024, leaves 512)")
    parser.add_argument("--seed", type=int, help="another seed is another wall or ivy (default: wall 11, leaves 5)")
    parser.add_argument("--out", type=Path, help="folder to write (default: data/test, data/test_leaves)")
    args = parser.parse_args(argv)
    make, size, seed, folder, prefix = MATERIALS[args.material]
    size, seed = (usual if given is None else given for given, usual in ((args.size, size), (args.seed, seed)))
    if size < 16 or seed < 0:
        parser.error(f"--size must be at least 16 and --seed at least 0, got {size} and {seed}")
    write_maps(make(size, seed), args.out or folder, prefix)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
