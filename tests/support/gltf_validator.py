"""Khronos' validator of glTF: the npm package gltf-validator, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / ".tools/node_modules/gltf-validator"
VERSION = "2.0.0-dev.3.10"  # what .ci/run installs
SEVERITIES = ("error", "warning", "info", "hint")  # by the validator's numbers
LIMIT_S = 50
SCRIPT = """
import fs from "fs"; import path from "path"; import { createRequire } from "module";
const [file, validator] = process.argv.slice(2);
const found = await createRequire(import.meta.url)(validator).validateBytes(new Uint8Array(fs.readFileSync(file)), {
    uri: path.basename(file), maxIssues: 0, writeTimestamp: false,
    externalResourceFunction: async (uri) =>
        new Uint8Array(fs.readFileSync(path.join(path.dirname(file), decodeURIComponent(uri)))),
});
process.stdout.write(JSON.stringify(found));
"""


class Message(NamedTuple):
    """What the validator says about one place of a model."""

    severity: str  # one of SEVERITIES
    code: str
    pointer: str  # a JSON pointer
    text: str


def validated(path: Path) -> list[Message]:
    """What the validator says about a .glb, or a .gltf with its files. Skips the test where it is not installed."""
    node = shutil.which("node")
    if node is None or not PACKAGE.is_dir():
        pytest.skip(f"needs node and Khronos' validator: npm install --prefix .tools gltf-validator@{VERSION}")
    command = [node, "--input-type=module", "-", str(path.resolve()), str(PACKAGE)]
    done = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise AssertionError(f"the validator does not read {path}: {done.stderr[-2000:]}")
    return [
        Message(SEVERITIES[issue["severity"]], issue["code"], issue.get("pointer", ""), issue["message"])
        for issue in json.loads(done.stdout)["issues"]["messages"]
    ]


def faults(path: Path) -> list[Message]:
    """The errors and warnings of `validated`."""
    return [message for message in validated(path) if message.severity in ("error", "warning")]
