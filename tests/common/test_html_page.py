"""Bytes, JSON and texts inside a page: what goes in comes out, and nothing in it is HTML."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from common.html_page import blob_scripts, encode_bytes, fill_template, json_for_html, one_script


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_bytes_survive(size):
    payload = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    text = encode_bytes(payload)
    assert base64.b64decode(text, validate=True) == payload
    assert not set("<&\0\r") & set(text) and len(text) <= 4 * -(-size // 3)
    assert blob_scripts(["QQ==", text]).count("<") == 4


def test_json_ends_no_script():
    value = {"a</script>": ["<!--", "é\u2028"]}
    text = json_for_html(value)
    assert "<" not in text and text.isascii() and json.loads(text) == value
    with pytest.raises(ValueError):
        json_for_html(float("nan"))


def test_replacements_are_not_templates():
    assert fill_template("a{{x}}b{{y}}c{{x}}", {"x": "{{y}}", "y": "1"}) == "a{{y}}b1c{{y}}"
    with pytest.raises(KeyError):
        fill_template("{{z}}", {})


def test_scripts_are_one(tmp_path):
    (tmp_path / "own.js").write_text("const own = 1;\n")
    text = one_script([tmp_path / "own.js"])
    assert text.startswith('"use strict";\n(() => {') and text.endswith("const own = 1;\n})();\n")
    assert "function blobBytes" in text and "getContext(\"webgl2\"" in text
