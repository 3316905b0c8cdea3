"""Small file systems for tests, where a mount is permitted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def mounted(folder: Path, options: str) -> None:
    """Mount a tmpfs with these options on `folder`, or skip the test."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if result.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {result.stderr.strip()}")
