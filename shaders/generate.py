"""Translate shaders/decoder.slang into shaders/generated/, three files per language: features packed in words, in
channels that a sampler filters, or both. Each is the decoder of all materials: what is only for some of them
(VARIANTS), or for a network of 16 or 8 bits (NETWORKS), stands between marks, and `choose_text` takes the lines for one
decoder.
on_load.slang and blocks.slang are translated too, one file per language each.

    python shaders/generate.py [--slangc PATH] [--check]

Needed only after a change of a .slang file, and with it Slang's compiler, which `pip install --no-deps slangtorch`
contains. The results are committed; shaders/export.py puts a material's preamble before them.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "decoder.slang"
ON_LOAD, BLOCKS = "on_load", "blocks"  # names of the files beside it,
ON_LOAD_TARGETS = ("hlsl", "glsl", "wgsl")  # and the languages that they are translated into
GENERATED = HERE / "generated"
SLANG_VERSION = "2026.14.1"  # of slangtorch 1.3.22: another one may write other, equally right, text
# GLSL ES 3.00 uses the text of GLSL 450: the preamble holds their differences.
TARGETS = {"hlsl": ["-profile", "sm_5_0"], "glsl": ["-profile", "glsl_450"], "wgsl": [], "metal": []}
# How features are read -> READING in decoder.slang, and part of the file's name except for packed.
READINGS = {"packed": 0, "filterable": 1, "mixed": 2}
# Numbers in decoder.slang, WIDTH and WORDS -> what the preamble calls them.
SIZES = {"7013": "NT_LAYER_WIDTH", "7019": "NT_LAYER_WORDS"}
FIELDS = ("diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement", "opacity", "emissive",
          "extra")  # fmt: skip
EXTRAS, DIFFUSE_UNITS, RECTANGLES, ROW_SCALES = "extra maps", "units of diffuse", "rectangles", "scales of rows"
# What some materials have -> the flag with which decoder.slang is translated for it.
VARIANTS = {
    EXTRAS: "-DEXTRAS=1", DIFFUSE_UNITS: "-DDIFFUSE_UNITS=1", RECTANGLES: "-DRECTANGLES=1",
    ROW_SCALES: "-DROW_SCALES=1",
}  # fmt: skip
# Lines before what only those materials have, before what the others have there, and after both.
MARK, MARK_WORDS = "//!", (" with ", " without", " both")
WITH, WITHOUT, BOTH = (MARK + word for word in MARK_WORDS)
# Networks of fewer bits change lines that scales of rows change too: the text of each, with the marks of its variants,
# is joined to that of the others by marks of its own. Network -> the flag of decoder.slang, and how its marks begin.
HALF, INTEGER = "products of 16 bits", "whole numbers of 8 bits"
NETWORKS = {HALF: ("-DHALF=1", "//!!"), INTEGER: ("-DINTEGER=1", "//!!!")}
# What Slang calls numbers of 16 bits -> what the preamble defines, where languages disagree.
HALF_NAMES = {
    "hlsl": {r"vector<half,4>": "NT_HALF4", r"\bhalf\b": "NT_HALF"},
    "glsl": {
        r"\bf16vec4\(": "NT_TO_HALF4(", r"\bf16vec4\b": "NT_HALF4",
        r"\bfloat16_t\(": "NT_TO_HALF(", r"\bfloat16_t\b": "NT_HALF", r"\b(\d+\.\d+)HF\b": r"NT_TO_HALF(\1)",
    },
}  # fmt: skip
ENTRY = re.compile(r"^(?:\[(?:shader|numthreads|\[kernel)|layout\(local_size_x|@compute)", re.MULTILINE)
FIRST_FUNCTION = re.compile(r"^\w+ +nt[A-Z]\w*\(", re.MULTILINE)
MATERIAL = re.compile(r"^struct NtMaterial\n\{.*?^\};\n\n", re.MULTILINE | re.DOTALL)  # is in the decoder's text
NUMBERED = re.compile(r"\b(_S|[A-Za-z]\w*_)\d+\b")  # the names that Slang numbers
ENDLESS_LOOP = re.compile(
    r"for\(;;\)\n( *)\{\n +if\((.*)\)\n +\{\n +\}\n +else\n +\{\n +break;\n +\}\n"
)  # how Slang writes every loop


def find_slangc() -> Path | None:
    """Slang's compiler: on the path, or the one inside the slangtorch package, which is not imported. None: neither."""
    found = shutil.which("slangc")
    if found:
        return Path(found)
    package = importlib.util.find_spec("slangtorch")
    for folder in package.submodule_search_locations or [] if package else []:
        compiler = Path(folder) / "bin" / "slangc"
        if compiler.is_file():
            return compiler
    return None


@functools.cache
def version_of(slangc: Path) -> str:
    """The output of `slangc -version`, for example 2026.14.1."""
    done = subprocess.run([slangc, "-version"], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip()


def file_name(target: str, reading: str) -> str:
    """The file in shaders/generated of a language and a way to read features."""
    return f"decoder.{target}" if reading == "packed" else f"decoder_{reading}.{target}"


def translate(slangc: Path, target: str, reading: str = "packed") -> str:
    """The committed text of one language and one of READINGS. Raises: as translate_source."""
    flags = [f"-DREADING={READINGS[reading]}"]
    text = whole = _translate_variants(slangc, target, flags)
    for network, (flag, mark) in NETWORKS.items():
        other = keep_names(whole, _translate_variants(slangc, target, [*flags, flag]))
        text = mark_differences(text, {network: other}, mark)
    return text


def _translate_variants(slangc: Path, target: str, flags: Sequence[str]) -> str:
    variants = {name: translate_source(slangc, SOURCE, target, [*flags, flag]) for name, flag in VARIANTS.items()}
    return mark_differences(translate_source(slangc, SOURCE, target, flags), variants)


def translate_on_load(slangc: Path, target: str) -> str:
    """The committed text of on_load.slang in one language, for extra maps too. Raises: as translate_source."""
    texts = [translate_source(slangc, HERE / f"{ON_LOAD}.slang", target, flags) for flags in ([], [VARIANTS[EXTRAS]])]
    plain, with_extras = (MATERIAL.sub("", text, count=1) for text in texts)
    return mark_differences(plain, {EXTRAS: with_extras})


def translate_blocks(slangc: Path, target: str) -> str:
    """The committed text of blocks.slang in one language. Raises: as translate_source."""
    return translate_source(slangc, HERE / f"{BLOCKS}.slang", target)


def keep_names(plain: str, other: str) -> str:
    """`other` with those functions of `plain` that differ in the numbers which Slang counts up through a text alone."""
    known = {_renumbered(function): function for function in plain.split("\n\n")}
    return "\n\n".join(known.get(_renumbered(function), function) for function in other.split("\n\n"))


def _renumbered(function: str) -> str:
    found: dict[str, str] = {}
    return NUMBERED.sub(lambda name: found.setdefault(name[0], f"{name[1]}:{len(found)}"), function)


def mark_differences(plain: str, variants: Mapping[str, str], mark: str = MARK) -> str:
    """A text and variants of it, by name, as one; `choose_text` gives them back, and those with several variants.

    mark: with what the lines of marks begin.
    Raises: RuntimeError when two variants change the same lines.
    """
    with_, without, both = (mark + word for word in MARK_WORDS)
    lines, changes = plain.splitlines(), []
    for name, text in variants.items():
        others = text.splitlines()
        for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
            if kind != "equal":
                changes.append((a0, a1, name, others[b0:b1]))
    marked, at = [], 0
    for first, last, name, others in sorted(changes):
        if first < at or (first == at > 0 and marked[-1] == both):
            raise RuntimeError(f"{name}: changes lines that another variant changes too")
        marked += [*lines[at:first], with_ + name, *others, without, *lines[first:last], both]
        at = last
    return "\n".join([*marked, *lines[at:]]) + "\n"


def choose_text(marked: str, variants: Collection[str]) -> str:
    """The text with these of the variants, and at most one of NETWORKS, that mark_differences joined."""
    lines = marked.splitlines()
    for mark in (*(mark for _, mark in reversed(NETWORKS.values())), MARK):
        lines = _choose_lines(lines, variants, mark)
    return "\n".join(lines) + "\n"


def _choose_lines(marked: Sequence[str], variants: Collection[str], mark: str) -> list[str]:
    with_, without, both = (mark + word for word in MARK_WORDS)
    lines, chosen, skipping = [], False, False
    for line in marked:
        if line.startswith(with_):
            chosen = line.removeprefix(with_) in variants
            skipping = not chosen
        elif line == without:
            skipping = chosen
        elif line == both:
            skipping = False
        elif not skipping:
            lines.append(line)
    return lines


def translate_source(slangc: Path, source: Path, target: str, flags: Sequence[str] = ()) -> str:
    """A Slang file, written like decoder.slang and ending in `entry`, as the tidied text of one language.

    Raises: RuntimeError when Slang refuses or its output looks unfamiliar.
    """
    return tidy(_in_every_language(slangc, source, tuple(flags))[target], target, source.name)


@functools.cache
def _in_every_language(slangc: Path, source: Path, flags: tuple[str, ...]) -> dict[str, str]:
    """What Slang writes for each of TARGETS: one run of it takes little longer for all of them than for one."""
    with tempfile.TemporaryDirectory() as folder:
        made = {target: Path(folder) / f"decoder.{target}" for target in TARGETS}
        command = [slangc, source, *flags, "-line-directive-mode", "none"]
        command += [word for target, own in TARGETS.items() for word in ("-target", target, *own)]
        command += ["-entry", "entry", "-stage", "compute"]
        command += [word for out in made.values() for word in ("-o", out)]  # Slang tells them apart by their endings
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not all(out.is_file() for out in made.values()):
            raise RuntimeError(f"{source.name} -> {', '.join(TARGETS)}: {done.stderr}")
        return {target: out.read_text(encoding="utf-8") for target, out in made.items()}


def tidy(text: str, target: str, source: str = SOURCE.name) -> str:
    """Slang's output without its entry point, with the names on which users and the preamble rely.

    source: the file's name, for the comment on top.
    Raises: RuntimeError when the output does not look as it should.
    """
    first, entry = FIRST_FUNCTION.search(text), ENTRY.search(text)
    if first is None or entry is None or first.start() >= entry.start():
        raise RuntimeError(f"{target}: no decoder in what Slang wrote")
    text = text[first.start() : entry.start()]
    text = ENDLESS_LOOP.sub(r"while(\2)\n\1{\n", text)
    for number, name in SIZES.items():
        text = re.sub(rf"(?:i32|int)\({number}\)|\b{number}\b", name, text)
    for name, own in HALF_NAMES.get(target, {}).items():
        text = re.sub(name, own, text)
    text = re.sub(r"\(\((NT_\w+)\)\)", r"\1", text)  # Slang and decoder.slang put each name in parentheses
    text = re.sub(r"\b([nN]t[A-Z]\w*)_0\b", r"\1", text)
    for name in FIELDS:
        if re.search(rf"\b{name}_[1-9]", text):
            raise RuntimeError(f"{target}: the field {name} has another variable beside it; rename that in the source")
        text = re.sub(rf"\b{name}_0\b", name, text)
    leftover = re.search(r"for\(;;\)|results|\bnt[A-Z]\w*_\d", text)
    if leftover:
        raise RuntimeError(f"{target}: unexpected {leftover[0]!r} in what Slang wrote")
    text = "\n".join(line.rstrip() for line in text.splitlines())
    where = "shaders/decoder.slang by shaders/generate.py" if source == SOURCE.name else source
    return f"// Generated from {where}; do not edit.\n\n{text.strip()}\n"


def generated_files() -> dict[Path, Callable[[Path], str]]:
    """Every file in shaders/generated -> what makes its text with Slang's compiler."""
    files: dict[Path, Callable[[Path], str]] = {
        GENERATED / file_name(target, reading): functools.partial(translate, target=target, reading=reading)
        for target, reading in itertools.product(TARGETS, READINGS)
    }
    makers = {ON_LOAD: translate_on_load, BLOCKS: translate_blocks}
    for name, target in itertools.product(makers, ON_LOAD_TARGETS):
        files[GENERATED / f"{name}.{target}"] = functools.partial(makers[name], target=target)
    return files


def main(argv: list[str] | None = None) -> int:
    """The command; see write_or_check."""
    return write_or_check(argv, "Translate the .slang files of shaders/.", generated_files())


def write_or_check(argv: Sequence[str] | None, description: str, files: Mapping[Path, Callable[[Path], str]]) -> int:
    """Write generated files, or with --check only compare: exit code 1 when one differs, 2 without Slang's compiler.

    files: path -> a function that makes its text with the compiler that it is given.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--slangc", type=Path, help="Slang's compiler [default: on the path, or slangtorch's]")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    arguments = parser.parse_args(argv)
    slangc = arguments.slangc or find_slangc()
    if slangc is None:
        print("error: no slangc; pip install --no-deps slangtorch, or --slangc PATH", file=sys.stderr)
        return 2
    if version_of(slangc) != SLANG_VERSION:
        print(f"note: slangc {version_of(slangc)}; the committed files are by {SLANG_VERSION}", file=sys.stderr)
    outdated = []
    for path, make in files.items():
        text = make(slangc)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(path.name)
        if not arguments.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{'out of date' if arguments.check else 'written'}: {', '.join(outdated) or 'nothing'}")
    return 1 if arguments.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
