"""A short run of what `python -m tests.fuzz` does at length: some inputs for each reader, picked by hypothesis."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.base import Sabotage, outcome
from tests.fuzz.images import image_seeds, repaired_png
from tests.fuzz.inputs import ABSURD, YAML_SEEDS, mutate_bytes, mutate_tree, zip_members, zipped
from tests.fuzz.readers import READERS
from tests.support.runs import ROOT, offline

EXAMPLES = {"checkpoint": 20, "manifest": 30, "export": 25, "config": 60}
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")


@pytest.fixture(scope="module", params=list(READERS))
def reader(request, tmp_path_factory):
    with offline():
        made = READERS[request.param](tmp_path_factory.mktemp(request.param))
    if getattr(made, "seeds", True) == []:
        pytest.skip("no package that writes such files")
    return request.param, made


def test_reader(reader, capfd):
    """Accepted, or one line that names the file; and nothing is printed."""
    name, made = reader
    seen = []

    @settings(
        max_examples=EXAMPLES.get(name, 40),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def feed(source):
        seen.append(outcome(made, source))

    with offline():
        feed()
    assert "refused" in seen
    assert capfd.readouterr() == ("", "")


def run_fuzz(*arguments, timeout=120):
    command = [sys.executable, "-m", "tests.fuzz", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def test_what_is_wrong_is_found(tmp_path):
    """Every kind of misbehaviour once, and two inputs that are fine."""
    result = run_fuzz(
        "--readers", "sabotage", "--inputs", len(Sabotage.kinds), "--limit", 1, "--json", tmp_path / "x.json"
    )
    assert result.returncode == 1, result.stderr
    [told] = json.loads((tmp_path / "x.json").read_text())
    assert told["inputs"] == len(Sabotage.kinds) and told["refused"] == 1
    found = {Sabotage.kinds[number]: text for number, text in told["findings"]}
    words = {
        "raises": "KeyError",
        "sleeps": "took 1",
        "hangs": "hangs",
        "dies": "exit code -11",
        "grows": "MiB",
        "prints": "libx: error",
        "writes": "outside",
        "removes": "os.remove",
        "unpickles": "pickle.find_class",
        "starts": "subprocess.Popen",
        "two lines": "not one line",
        "names nothing": "names none of",
    }
    assert set(found) == set(words) == set(Sabotage.kinds) - {"fine", "refused"}
    assert all(word in found[kind] for kind, word in words.items()), found
    assert (
        f"{len(told['findings'])} findings" in result.stdout and "--readers sabotage --seed 0 --first" in result.stdout
    )


def test_a_run_without_findings():
    result = run_fuzz("--readers", "sabotage", "--inputs", 2, "--seed", 7)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 inputs" in result.stdout and result.stdout.rstrip().endswith("0 findings")


# --- the damage itself -----------------------------------------------------------------------------------------------


def test_inputs_differ_and_can_be_made_again():
    seed = bytes(range(256)) * 4
    made = [mutate_bytes(seed, random.Random(number), [b"other" * 40]) for number in range(300)]
    assert len(set(made)) > 280 and seed not in made
    assert made == [mutate_bytes(seed, random.Random(number), [b"other" * 40]) for number in range(300)]
    assert any(len(one) < len(seed) for one in made) and any(len(one) > len(seed) for one in made)
    assert {len(mutate_bytes(b"", random.Random(number))) > 0 for number in range(30)} == {False, True}


def test_trees_are_changed_and_left_alone():
    tree = {"a": [1, {"b": "x"}], "c": 2.5}
    made = [
        json.dumps(mutate_tree(tree, random.Random(n), [v for v in ABSURD if v == v]), default=str) for n in range(200)
    ]
    assert tree == {"a": [1, {"b": "x"}], "c": 2.5} and len(set(made)) > 120


def test_repairs(tmp_path):
    from PIL import Image as PillowImage

    seed = image_seeds()[".png"][0]
    assert repaired_png(seed) == seed
    broken = bytearray(seed)
    broken[19] ^= 1  # the width: a wrong checksum hides it from the decoder
    with pytest.raises((OSError, SyntaxError)):
        PillowImage.open(io.BytesIO(bytes(broken))).verify()
    PillowImage.open(io.BytesIO(repaired_png(bytes(broken)))).verify()
    members = [("a", b"x"), ("b", os.urandom(99))]
    assert zip_members(zipped(members)) == members
    assert all(isinstance(text, str) for text in YAML_SEEDS)
