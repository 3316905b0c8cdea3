"""device.py: what auto takes, and names that are refused."""

from __future__ import annotations

import pytest
import torch

from common.device import choose_device


@pytest.mark.parametrize(
    ("there", "automatic", "taken"),
    [
        ((), ("cuda", "mps"), "cpu"),
        (("mps",), ("cuda",), "cpu"),
        (("mps",), ("cuda", "mps"), "mps"),
        (("cuda", "mps"), ("cuda", "mps"), "cuda"),
        (("cuda", "mps"), ("mps", "cuda"), "mps"),
    ],
)
def test_auto_is_the_first_that_is_there(there, automatic, taken, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert choose_device("auto", automatic) == torch.device(taken)
    assert choose_device("auto") == torch.device("cuda" if "cuda" in there else "cpu"), "MPS only where it is asked for"


def test_a_device_that_is_there():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "mps:7", "meta", "cpu:x"])
def test_others_are_refused(name, refused):
    with refused(f"--device {name}", "use auto or cpu"):
        choose_device(name)
