"""YAML files of options: names and values, read with limits, since they may come from strangers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError, brief
from common.knobs import suggest

MAX_BYTES = 64 << 10  # of a file; one with every field has 4 KiB, and PyYAML reads some 20 KiB a second
MAX_NODES = 10_000  # entries, keys and values of a file


def load_config_file(
    path: str | Path, fields: Mapping[str, Any], where: str = "", ignored: Collection[str] = ()
) -> dict[str, Any]:
    """Read a YAML (or JSON, which is YAML) mapping of field names to values; the values are not checked.

    Args:
        where: what errors call it, in place of --config and its path.
        ignored: names that may be there too, and are left out.
    Raises: UserError when it cannot be read, is not a mapping, or names something else than `fields`.
    """
    where = where or f"--config {path}"
    try:
        with Path(path).open("rb") as stream:  # a pipe is welcome: --config <(...)
            payload = stream.read(MAX_BYTES + 1)
        text = payload.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{where}: cannot be read ({reason}); give the path of a YAML file") from error
    if len(payload) > MAX_BYTES:
        raise UserError(f"{where}: over {MAX_BYTES >> 10} KiB, which no configuration needs")
    try:
        values = _parse_yaml(text)
    except Exception as error:  # PyYAML raises anything for odd scalars, an IndexError for '!!int _'
        reason = str(getattr(error, "problem_mark", "") or error or type(error).__name__)
        place = f"{' '.join(reason.split()):.200}"
        raise UserError(f"{where}: not valid YAML ({place}); write one 'field: value' per line") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected 'field: value' lines, found a {type(values).__name__}")
    values = {name: value for name, value in values.items() if name not in ignored}
    for name in values:
        if name not in fields:
            raise UserError(f"{where}: unknown field {brief(name)}{suggest(name, fields)}")
    return values


def _parse_yaml(text: str) -> Any:
    """yaml.safe_load of a document of at most MAX_NODES entries.

    Aliases of aliases let a few lines stand for more entries than fit into memory, so entries are counted before they
    are made. Raises: yaml.YAMLError and, from PyYAML's constructors, any exception.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _node_count(node, {}) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} entries, aliases included")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _node_count(node: Any, counts: dict[int, float]) -> float:
    """Nodes of a YAML document with every alias written out; infinite for one that contains itself."""
    if id(node) not in counts:
        counts[id(node)] = math.inf  # found again before its own count is known: it contains itself
        parts = node.value if isinstance(node.value, list) else []
        children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        counts[id(node)] = 1 + sum(_node_count(child, counts) for child in children)
    return counts[id(node)]
