"""metrics.py: LPIPS with a network, without its weights, and their download, from a server of the test's own."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from metrics import perceptual
from metrics import scores as metrics
from tests.support.image_pairs import ALL, pair
from tests.support.runs import ROOT


def clear_lpips():
    perceptual._lpips_network.cache_clear()
    perceptual.download_lpips_weights.cache_clear()


@pytest.fixture
def hub(monkeypatch, tmp_path, request):
    """An empty torch hub cache, and nothing remembered: the path that AlexNet's weights would have."""
    models = pytest.importorskip("torchvision").models
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    clear_lpips()
    request.addfinalizer(clear_lpips)
    return tmp_path / "hub" / "checkpoints" / models.AlexNet_Weights.DEFAULT.url.rpartition("/")[2]


@pytest.fixture
def lpips_network(monkeypatch, hub):
    """The real loading path and network, with random AlexNet weights in the place of the downloaded ones."""
    models = pytest.importorskip("torchvision").models
    alexnet = models.alexnet
    monkeypatch.setattr(models, "alexnet", lambda weights=None: alexnet(weights=None, num_classes=1))
    hub.parent.mkdir(parents=True)
    hub.touch()
    torch.manual_seed(3)
    return perceptual._lpips_network()[0]


def leaves(value):
    return list(itertools.chain.from_iterable(map(leaves, value.values()))) if isinstance(value, dict) else [value]


def test_lpips_leaves_gradients_and_random_numbers_alone(lpips_network):
    decoded, source = pair(33, 33)
    perceptual._lpips_network.cache_clear()  # loading draws random numbers
    state = torch.get_rng_state()
    scores = metrics.evaluate_lod(decoded.requires_grad_(), source, ALL)
    assert None not in leaves(scores)
    assert torch.equal(torch.get_rng_state(), state) and decoded.grad is None


def test_lpips_with_a_network(lpips_network):
    decoded, source = (image.clamp(0, 1) for image in pair(33, 47))
    got = perceptual.lpips(decoded[..., :3], source[..., :3])
    planes = [image[..., :3].permute(2, 0, 1)[None] for image in (decoded, source)]
    assert got == pytest.approx(lpips_network.net(*planes, normalize=True).item(), rel=1e-5) and got > 0
    grey = [image[..., 6:7] for image in (decoded, source)]
    assert perceptual.lpips(*grey) == pytest.approx(perceptual.lpips(*(image.expand(-1, -1, 3) for image in grey)))
    assert perceptual.lpips(source[..., :3], source[..., :3]) == 0
    assert perceptual.lpips_unavailable_reason() is None
    assert lpips_network.all_scores == []  # nothing piles up from LOD to LOD


@pytest.mark.parametrize(("size", "exists"), [((31, 64), False), ((64, 31), False), ((32, 32), True)], ids=str)
def test_lpips_needs_32_texels(lpips_network, size, exists):
    scores = metrics.evaluate_lod(*pair(*size), ["diffuse", "metallic"])
    assert all((value is not None) == exists for value in scores["lpips"].values())
    if exists:
        assert scores["lpips"]["all"] == pytest.approx((scores["lpips"]["diffuse"] + scores["lpips"]["metallic"]) / 2)


def test_lpips_of_a_large_image_is_the_area_mean_of_even_tiles(lpips_network, monkeypatch):
    decoded, source = (image[..., :3].clamp(0, 1) for image in pair(97, 64))
    monkeypatch.setattr(perceptual, "LPIPS_TILE", 64)
    parts = [perceptual.lpips(decoded[rows], source[rows]) for rows in (slice(0, 48), slice(48, 97))]
    assert perceptual.lpips(decoded, source) == pytest.approx((48 * parts[0] + 49 * parts[1]) / 97, rel=1e-6)
    assert [(cut.start, cut.stop) for cut in perceptual._even_cuts(129)] == [(0, 43), (43, 86), (86, 129)]


@pytest.fixture
def unreachable_weights(monkeypatch, hub):
    """An empty hub cache and a server that cannot be reached; counts the attempts."""
    attempts = []

    def refuse(url, **_):
        attempts.append(url)
        raise OSError("[Errno -2] Name or service\nnot known")

    monkeypatch.setattr(perceptual.urllib.request, "urlopen", refuse)
    return attempts


def test_lpips_without_weights_is_one_line_and_no_attempt(unreachable_weights, tmp_path):
    scores = metrics.evaluate_lod(*pair(40, 40), ALL)
    assert set(scores["lpips"].values()) == {None}
    assert None not in leaves({**scores, "lpips": {}})  # everything else goes on
    reason = perceptual.lpips_unavailable_reason()
    assert len(reason.splitlines()) == 1 and str(tmp_path) in reason and "--eval_metrics lpips" in reason
    assert unreachable_weights == [] and list(tmp_path.rglob("*")) == []


def test_lpips_of_another_torchvision_is_not_downloaded(unreachable_weights, hub):
    hub.parent.mkdir(parents=True)
    hub.with_name("alexnet-owt-00000000.pth").touch()
    reason = perceptual.lpips_unavailable_reason()
    assert len(reason.splitlines()) == 1 and hub.name in reason and unreachable_weights == []


def test_lpips_download_that_fails_is_one_line_and_one_attempt(unreachable_weights, tmp_path, capfd, request):
    before = socket.getdefaulttimeout()
    request.addfinalizer(lambda: socket.setdefaulttimeout(before))
    socket.setdefaulttimeout(77)
    for _ in range(2):
        reason = perceptual.download_lpips_weights()
        assert len(reason.splitlines()) == 1 and "not known" in reason and str(tmp_path) in reason
        assert set(metrics.evaluate_lod(*pair(40, 40), ALL)["lpips"].values()) == {None}
    assert len(unreachable_weights) == 1
    assert capfd.readouterr() == ("", "")  # the caller prints it, nothing else does
    assert list(tmp_path.rglob("*")) == []
    assert socket.getdefaulttimeout() == 77
    assert os.environ.get(perceptual.WEIGHTS_ONLY, "0") == "0"


def test_lpips_uses_a_file_in_the_hub_cache_and_never_unpickles_code(unreachable_weights, hub, tmp_path):
    hub.parent.mkdir(parents=True)
    torch.save({"weights": Trap(tmp_path / "ran")}, hub)
    assert perceptual.download_lpips_weights() is None  # it is there
    reason = perceptual.lpips_unavailable_reason()
    assert len(reason.splitlines()) == 1 and "UnpicklingError" in reason
    assert not (tmp_path / "ran").exists() and unreachable_weights == []


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def server():
    """(url, replies): a local server that sends replies[0]: bytes at once, or a promise of more that never comes."""
    replies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(replies[0]) + (replies[0] == b"stall")))
            self.end_headers()
            self.wfile.write(replies[0])
            if replies[0] == b"stall":
                time.sleep(0.6)

        def log_message(self, *_):
            pass

    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=instance.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{instance.server_port}", replies
    instance.shutdown()
    instance.server_close()


@pytest.mark.parametrize("case", ["good", "wrong hash", "stall"])
def test_lpips_download_is_all_or_nothing(server, tmp_path, monkeypatch, capfd, case):
    url, replies = server
    replies.append(b"stall" if case == "stall" else b"weights")
    digest = "00000000" if case == "wrong hash" else hashlib.sha256(b"weights").hexdigest()[:8]
    path = tmp_path / "hub" / f"net-{digest}.pth"
    monkeypatch.setattr(perceptual, "NETWORK_SECONDS", 0.3)
    with perceptual._load_settings():
        if case == "good":
            perceptual._fetch(f"{url}/{path.name}", path)
            assert path.read_bytes() == b"weights"
            perceptual._fetch("http://127.0.0.1:1/not-asked", path)  # it is there
        else:
            with pytest.raises((RuntimeError, OSError)):
                perceptual._fetch(f"{url}/{path.name}", path)
    assert [found.name for found in path.parent.iterdir()] == ([path.name] if case == "good" else [])
    assert capfd.readouterr() == ("", "")


def test_lpips_gives_up_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "NETWORK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(OSError):
            perceptual._fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/net-00000000.pth", tmp_path / "a" / "b.pth")
    assert time.monotonic() - start < 5 and not (tmp_path / "a").exists()


def test_lpips_gives_up_a_lookup_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "NETWORK_SECONDS", 0.1)
    monkeypatch.setattr(perceptual.urllib.request, "urlopen", lambda url, **_: time.sleep(2))
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        perceptual._fetch("http://localhost/net-00000000.pth", tmp_path / "net-00000000.pth")
    assert time.monotonic() - start < 1.5


def test_lpips_with_a_broken_torchvision(tmp_path):
    """In a process of its own: what torchvision cannot do must not keep anything else from being done."""
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "alexnet-owt-7be5be79.pth").touch()
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is gone')")
    script = (
        "import torch; from metrics import perceptual, scores as metrics; image = torch.rand(40, 40, 11)\n"
        "scores = metrics.evaluate_lod(image, image, ['diffuse'])\n"
        "print(scores['psnr']['all'] > 40, scores['ssim']['all'] > 0.9, scores['lpips'])\n"
        "print(perceptual.lpips_unavailable_reason())"
    )
    python_path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": python_path, "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "True True {'all': None, 'diffuse': None}"
    assert len(lines) == 2 and "nms is gone" in lines[1]
