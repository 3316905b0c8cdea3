"""Whole models in and out: what Khronos' validator says, and that nothing changes but materials."""

from __future__ import annotations

import json

from tests.support.gltf_validator import faults, validated
from tests.support.models import glb
from tests.support.paths import ROOT

PILLAR = ROOT / "data" / "pillar.glb"


def test_the_validator_has_nothing_to_say_about_the_sample():
    assert validated(PILLAR) == []


def test_the_validator_finds_what_is_wrong(tmp_path):
    (tmp_path / "bad.glb").write_bytes(glb({"materials": [{"alphaMode": "ROUND"}]}, text=None))
    (tmp_path / "bad.gltf").write_text(json.dumps({"asset": {"version": "2.0"}, "nodes": [{"mesh": 3}]}))
    said = [(each.severity, each.pointer) for name in ("bad.glb", "bad.gltf") for each in faults(tmp_path / name)]
    assert ("error", "/nodes/0/mesh") in said and ("warning", "/materials/0/alphaMode") in said, said
