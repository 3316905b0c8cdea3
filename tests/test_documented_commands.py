"""Every command that README.md, docs/ and .vscode/launch.json show is one that the programs understand."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command_lines import check_lines
from tests.support.paths import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "data/README.md", *ROOT.glob("docs/**/*.md")])
COMPANIONS = ("lightmap", "deferred", "neuropbr")
PLACEHOLDERS = {"LAYOUT": "filterable", "N": "1"}
# Flags of other programs: pip, npm, ray, torchrun, pytest, xcode-select.
OTHERS = {"--no-build-isolation", "--nproc_per_node", "--directory", "--head", "--address", "--help", "--dist",
          "--maxprocesses", "--logdir", "--install"}  # fmt: skip
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.timeout(300),  # starts every program of the repository
]


class Command(NamedTuple):
    page: str
    folder: Path  # where it is started
    program: tuple[str, ...]  # ("train.py",) or ("-m", "bench.rate")
    line: list[str]  # its arguments


def command_of(text: str, page: str, folder: Path) -> Command | None:
    """The first program of Python in a shell command; None where there is none, or one that is not ours."""
    found = re.search(r"(?:^|[\s/])python3? (.*)$", text)
    words = shlex.split(re.sub(r"[\[\]]", " ", found[1]), comments=True) if found else []
    words = words[: words.index("&&") if "&&" in words else None]
    words = [PLACEHOLDERS.get(word, word) for word in words if word != "…"]
    program = tuple(words[:2] if words[:1] == ["-m"] else words[:1])
    ours = program and (
        (ROOT / program[1].replace(".", "/")).exists() or (ROOT / f"{program[1].replace('.', '/')}.py").exists()
        if program[0] == "-m"
        else program[0].endswith(".py")
    )
    return Command(page, ROOT if program[0] == "-m" else folder, program, words[len(program) :]) if ours else None


def commands_of(page: Path) -> list[Command]:
    """Those in blocks of shell, which follow `cd`, and those inside of sentences. A companion's page is at home in its
    folder."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    home = ROOT / page.stem if page.stem in COMPANIONS else ROOT
    found = []
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        folder = home
        for line in block.splitlines():
            moved = re.match(r"\s*cd (\S+)", line)
            if moved:
                folder = next(path for path in (folder / moved[1], ROOT / moved[1]) if path.is_dir()).resolve()
            found.append(command_of(line, name, folder))
    for code in re.findall(r"`([^`]*?\bpython3? [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        named = command_of(" ".join(code.split()), name, home)
        found.append(named._replace(line=named.line or ["--help"]) if named else None)  # a program that is only named
    return [command for command in found if command]


def launch_commands() -> list[Command]:
    launch = json.loads((ROOT / ".vscode/launch.json").read_text(encoding="utf-8"))
    inputs = {f"${{input:{entry['id']}}}": entry["default"] for entry in launch["inputs"]}

    def expanded(text: str) -> str:
        for name, value in {**inputs, "${workspaceFolder}": str(ROOT)}.items():
            text = text.replace(name, value)
        return text

    found = []
    for entry in launch["configurations"]:
        program = ("-m", entry["module"]) if "module" in entry else (expanded(entry["program"]),)
        line = [expanded(word) for word in entry["args"]]
        found.append(Command(f"launch.json: {entry['name']}", Path(expanded(entry["cwd"])), program, line))
    return found


def test_no_default_of_an_input_holds_a_variable():
    """VS Code substitutes none there, and programs would get `${workspaceFolder}` as it is."""
    launch = json.loads((ROOT / ".vscode/launch.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in launch["inputs"] if "${" in entry.get("default", "")] == []


def refusals(commands: list[Command]) -> tuple[list[str], set[str]]:
    """What the programs' parsers refuse of these, and every flag that they have."""
    programs = defaultdict(list)
    for command in commands:
        programs[str(command.folder), command.program].append(command)
    requests = [
        {"folder": folder, "program": list(program), "lines": [command.line for command in group]}
        for (folder, program), group in programs.items()
    ]
    refused, flags = [], set()
    for group, answer in zip(programs.values(), check_lines(requests)):
        flags |= set(answer["flags"])
        refused += [
            f"{command.page}: {' '.join([*command.program, *command.line])}: {error}"
            for command, error in zip(group, answer["errors"])
            if error
        ]
    return refused, flags


@pytest.fixture(scope="module")
def answers():
    ours = [command for command in launch_commands() if command.program[1:] not in {("pytest",), ("tensorboard.main",)}]
    return refusals([*ours, *(command for page in PAGES for command in commands_of(page))])


def test_every_command_is_understood(answers):
    assert answers[0] == []


def test_every_flag_in_the_texts_exists(answers):
    unknown = [
        f"{page.relative_to(ROOT).as_posix()}: {flag}"
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
        if flag not in answers[1] | OTHERS
    ]
    assert unknown == []


def test_commands_that_are_not_understood_are_found(tmp_path):
    page = tmp_path / "page.md"
    lines = ["python train.py --no_such_flag 1", "python export.py --load_iter none", "python gone.py"]
    lines.append("python -m bench.lods")
    page.write_text("```bash\n" + "\n".join(lines) + "\n```\n")
    found = [command_of(line, "page.md", ROOT) for line in lines]
    refused, _ = refusals(found)
    words = ["--no_such_flag", "invalid int value", "gone.py", "the following arguments are required"]
    assert len(refused) == 4 and all(word in line for word, line in zip(words, refused))


def test_the_face_is_no_manual():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250
