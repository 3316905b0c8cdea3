"""Decode every image of a dataset and report damaged ones; without --fix no file is changed.

    python validate_dataset.py --input_dir ./data/input --output_dir ./data/output

corrupted_files.json in the working folder lists the findings. With --fix damaged files are moved to --quarantine, under
their relative path. Exit code: 0 without findings, 1 with findings, 2 for wrong use.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import argparse
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from common.errors import UserError, counted, quote, run_command
from common.events import progress_bar
from common.files import make_folder, write_json
from common.knobs import HomeParser
from maps.images import read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".exr")
REPORT = "corrupted_files.json"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", "--input-dir", required=True, help="renders")
    parser.add_argument("--output_dir", "--output-dir", required=True, help="maps")
    parser.add_argument("--workers", type=int, default=8, help="threads")
    parser.add_argument("--fix", action="store_true", help="move broken files to --quarantine")
    parser.add_argument("--quarantine", default="corrupted_files", help="receives what --fix moves")
    options = parser.parse_args(argv)
    if not 1 <= options.workers <= 256:
        raise UserError(f"--workers: expected 1 to 256, found {options.workers}")
    return options


def find_images(folder: Path) -> list[Path]:
    """Image files below `folder`. Raises: UserError when it is no folder."""
    if not folder.is_dir():
        raise UserError(f"{quote(folder)}: expected a folder of the dataset, found none; check the path")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def problem_of(path: Path) -> str | None:
    """The reason why `path` cannot be decoded to its last pixel; None if it can."""
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return None


def structure_problem(input_dir: Path, output_dir: Path) -> dict[str, str] | None:
    """The finding about the layout of a dataset that PBRDataset reports; None if it has none."""
    from neuropbr.utils.dataset import METADATA, PBRDataset

    if not (input_dir / METADATA).is_file():
        return {"path": str(input_dir / METADATA), "error": f"no {METADATA}: the dataset cannot be trained on"}
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            PBRDataset(input_dir, output_dir, curriculum_mode=1)
        if said:
            return {"path": str(input_dir), "error": str(said[0].message)}
    except UserError as error:
        return {"path": str(input_dir), "error": str(error)}
    return None


def move_aside(path: Path, root: Path, quarantine: Path) -> Path:
    """Move a file to quarantine/<name of root>/<path below root>, with a number if that name is taken."""
    wanted = quarantine / (root.resolve().name or "root") / path.relative_to(root)
    make_folder(wanted.parent)
    target, number = wanted, 1
    while target.exists():
        target, number = wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}"), number + 1
    path.rename(target)
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    roots = [Path(options.input_dir), Path(options.output_dir)]
    images = [(path, root) for root in roots for path in find_images(root)]
    with ThreadPoolExecutor(options.workers) as pool, progress_bar(len(images), 0) as bar:
        bar.set_description("checking")
        problems = []
        for problem in pool.map(problem_of, (path for path, _ in images)):
            problems.append(problem)
            bar.update()
    broken = [(path, root, problem) for (path, root), problem in zip(images, problems) if problem]
    findings = [{"path": str(path), "error": problem} for path, _, problem in broken]
    layout = structure_problem(*roots)
    findings += [layout] if layout else []
    for finding in findings:
        print(finding["error"])
    if options.fix:
        for path, root, _ in broken:
            print(f"moved {quote(path)} to {quote(move_aside(path, root, Path(options.quarantine)))}")
    report = Path(REPORT)
    if findings:
        write_json(report, findings)
    else:
        report.unlink(missing_ok=True)  # of an earlier check
    print(f"{counted(len(images), 'image')}, {counted(len(findings), 'finding')}"
          + (f": {quote(report)}" if findings else ""))  # fmt: skip
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="lower --workers"))
