"""Rules of the repository's layout, checked on the source: who imports whom, and what stands where.

Every rule takes the folder to look at and returns its violations, one line each, so that tests can also break it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

Graph = dict[str, set[str]]  # module -> modules of the repository that it imports


@functools.cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def parsed(path: Path) -> ast.Module:
    return _parsed(path.read_text(encoding="utf-8"))


# --- who imports whom ------------------------------------------------------------------------------------------------


def modules_of(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Dotted name -> file, of these modules and packages; a package goes by the name of its folder."""
    found = {}
    for name in names:
        files = [root / f"{name}.py"] if (root / f"{name}.py").exists() else sorted((root / name).rglob("*.py"))
        for path in files:
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(path: Path, module: str) -> set[str]:
    """Every dotted name that a file imports: anywhere in it, also inside functions, conditions and import_module()."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            argument = node.args[0]
            found |= {argument.value} if isinstance(argument, ast.Constant) else set()
    return found


def module_named(name: str, modules: Iterable[str]) -> str | None:
    """The module that `name`, a module or something in one, belongs to; None for what is not of the repository."""
    parts = name.split(".")
    candidates = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((candidate for candidate in candidates if candidate in modules), None)


def import_graph(modules: dict[str, Path]) -> Graph:
    graph = {}
    for module, path in modules.items():
        targets = {module_named(name, modules) for name in imported_names(path, module)}
        graph[module] = {target for target in targets if target not in (None, module)}
    return graph


def arrows_up(root: Path, order: Sequence[str], outsiders: Sequence[str] = ()) -> list[str]:
    """Imports from a room into one that stands later in `order`, or into an outsider, which nothing may import."""
    rank = {name: place for place, name in enumerate([*order, *outsiders])}
    graph = import_graph(modules_of(root, rank))
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in sorted(targets)
        if module.split(".")[0] in order and rank[module.split(".")[0]] < rank[target.split(".")[0]]
    ]


def circles(root: Path, names: Iterable[str]) -> list[str]:
    """Groups of modules that import each other, directly or through others."""
    graph = import_graph(modules_of(root, names))

    def reached_from(module: str) -> set[str]:
        seen, ahead = set(), [module]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reached = {module: reached_from(module) for module in graph}
    groups = {frozenset(m for m in reached[module] if module in reached[m]) for module in graph}
    return sorted(" <-> ".join(sorted(group)) for group in groups if group)


def forbidden_imports(root: Path, companions: Sequence[str], forbidden: Sequence[str]) -> list[str]:
    """Imports from a companion into one of the `forbidden` rooms or into another companion.

    A companion's scripts also run from its own folder, where a bare name is the module beside them.
    """
    found = []
    for companion in companions:
        for module, path in modules_of(root, [companion]).items():
            rooms = {name.split(".")[0] for name in imported_names(path, module)}
            own = {name for name in rooms if (root / companion / f"{name}.py").exists() or name == companion}
            found += [f"{module} imports {room}" for room in sorted(rooms - own & {*forbidden, *companions})]
    return found


def imported_tests(root: Path) -> list[str]:
    """Imports of a module that has tests in it."""
    modules = modules_of(root, ["tests"])

    def has_tests(path: Path) -> bool:
        body = parsed(path).body
        return any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in body)

    tests = {module for module, path in modules.items() if has_tests(path)}
    return [
        f"{module} imports {target}"
        for module, targets in import_graph(modules).items()
        for target in sorted(targets & tests)
    ]


# --- what stands where -----------------------------------------------------------------------------------------------


def crowded_root(root: Path, most_modules=8, most_requirements=2) -> list[str]:
    """Python files and lists of requirements at the root that are too many."""
    found = []
    for pattern, most in (("*.py", most_modules), ("requirements*.txt", most_requirements)):
        names = sorted(path.name for path in root.glob(pattern))
        found += [f"{len(names)} {pattern} at the root, expected at most {most}: {names}"] if len(names) > most else []
    return found


def rooms_without_a_place(root: Path, known: Iterable[str]) -> list[str]:
    """Modules and packages at the root that no list names, and names without a module or package."""
    files = {path.stem for path in root.glob("*.py")}
    there = files | {path.parent.name for path in root.glob("*/*.py") if not path.parent.name.startswith(".")}
    known = set(known)
    return [f"{name} has no place in the order" for name in sorted(there - known)] + [
        f"{name} is in the order and does not exist" for name in sorted(known - there)
    ]


def prefix_families(root: Path, rooms: Iterable[str]) -> list[str]:
    """Modules of one folder whose names start with the same `word_`: a package spelled as names."""
    families = defaultdict(list)
    for room in rooms:
        for path in sorted([root / f"{room}.py"] if (root / f"{room}.py").exists() else (root / room).rglob("*.py")):
            word, _, rest = path.stem.partition("_")
            if word and rest:
                families[path.parent.relative_to(root).as_posix(), word].append(path.name)
    return [f"{folder}: {', '.join(names)}" for (folder, _), names in families.items() if len(names) > 1]


def packages_without_a_subject(root: Path, names: Iterable[str]) -> list[str]:
    """Folders with modules whose __init__.py is missing or does not begin with a paragraph of one sentence."""
    found = []
    for folder in sorted({path.parent for name in names for path in (root / name).rglob("*.py")}):
        file = folder / "__init__.py"
        text = ast.get_docstring(parsed(file)) if file.exists() else None
        first = " ".join((text or "").split("\n\n")[0].split())
        if not first.endswith((".", ".)")) or re.search(r"[.!?] +[A-Z]", first):
            found.append(f"{folder.relative_to(root).as_posix()}: expected one sentence, found {first!r}")
    return found
