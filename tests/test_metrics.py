"""metrics.py: every number against its definition, what is missing is None, and a machine without LPIPS or FLIP."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import metrics
from map_files import MAPS, map_slice

ALL = list(MAPS)
SIZES = [(1, 1), (5, 7), (10, 11), (11, 11), (640, 384)]  # H, W: below, at and above what the metrics need


@pytest.fixture(autouse=True)
def without_lpips(monkeypatch, request):
    """No test depends on whether this machine has the AlexNet weights, and none asks the network."""
    if not request.node.name.startswith("test_lpips"):
        monkeypatch.setattr(metrics, "_lpips_network", lambda: (None, "LPIPS is left out: switched off for the test"))


def clear_lpips():
    metrics._lpips_network.cache_clear()
    metrics.download_lpips_weights.cache_clear()


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
    return metrics._lpips_network()[0]


def pair(height, width, noise=0.05, seed=0):
    """A decoded image that goes past both ends of [0, 1], and an 8-bit source."""
    generator = torch.Generator().manual_seed(seed)
    source = (torch.rand(height, width, 11, generator=generator) * 255).round() / 255
    scale = noise * torch.linspace(0.2, 3, 11)  # unequal maps
    return source + scale * torch.randn(height, width, 11, generator=generator), source


def shipped_float64(decoded):
    """The 8-bit image, by the definition, in float64."""
    return np.floor(np.clip(decoded.numpy().astype(np.float64), 0, 1) * 255 + 0.5) / 255


def psnr_float64(decoded, source):
    return -10 * np.log10(np.mean((shipped_float64(decoded) - source.numpy().astype(np.float64)) ** 2))


def leaves(value):
    return list(itertools.chain.from_iterable(map(leaves, value.values()))) if isinstance(value, dict) else [value]


# --- PSNR


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_psnr_is_the_definition(size):
    decoded, source = pair(*size)
    psnr = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)["psnr"]
    assert list(psnr) == ["all", *ALL]
    tolerance = 1e-4  # dB; float32 values: 1.4e-5 seen where one texel is one code off
    assert psnr["all"] == pytest.approx(psnr_float64(decoded, source), abs=tolerance)
    for name in ALL:
        want = psnr_float64(decoded[..., map_slice(name)], source[..., map_slice(name)])
        assert psnr[name] == pytest.approx(want, abs=tolerance), name


def test_psnr_all_is_over_channels_not_over_maps():
    source = torch.zeros(4, 4, 11)
    decoded = source.clone()
    decoded[..., map_slice("roughness")] = 51 / 255
    psnr = metrics.evaluate_lod(decoded, source, ["diffuse", "roughness"])["psnr"]
    assert psnr["roughness"] == pytest.approx(-10 * math.log10(0.04))
    assert psnr["all"] == pytest.approx(-10 * math.log10(0.04 / 4))  # 1 of 4 channels
    assert psnr["diffuse"] == metrics.MAX_PSNR_DB


def test_psnr_does_not_depend_on_the_tiles(monkeypatch):
    decoded, source = pair(50, 31)
    whole = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)
    monkeypatch.setattr(metrics, "TILE_VALUES", 31 * 11 * 7)  # 7 rows; the last tile has 1
    tiled = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False, with_flip=False)
    assert tiled["psnr"] == pytest.approx(whole["psnr"], rel=1e-12)
    assert tiled["normal_degrees"] == pytest.approx(whole["normal_degrees"], rel=1e-12)


def test_decoded_is_rounded_to_8_bits_and_the_source_is_not():
    source = torch.full((3, 2, 11), 1000.25 / 65535)  # a 16-bit value between two 8-bit ones
    code = math.floor(1000.25 / 65535 * 255 + 0.5)
    psnr = metrics.evaluate_lod(source.clone(), source, ["metallic"])["psnr"]
    assert psnr["metallic"] == pytest.approx(-20 * math.log10(abs(code / 255 - 1000.25 / 65535)), abs=1e-4)


def test_rounding_at_halves_ends_and_nan():
    values = torch.tensor([[[0.5 / 255], [1.49 / 255], [-3.0], [7.0], [math.nan], [math.inf], [-math.inf]]])
    assert (metrics.round_to_8_bit(values).flatten() * 255).tolist() == [1, 1, 0, 255, 0, 255, 0]
    codes = torch.arange(256) / 255
    assert torch.equal(metrics.round_to_8_bit(codes), codes)  # 8-bit values are hit exactly
    assert metrics.round_to_8_bit(codes) is not codes


def test_a_source_that_is_not_changed_stays_so():
    decoded, source = pair(12, 13)
    before = decoded.clone(), source.clone()
    metrics.evaluate_lod(decoded, source, ALL)
    list(metrics.strip_bands(decoded[..., 3:6], source[..., 3:6]))
    assert torch.equal(decoded, before[0]) and torch.equal(source, before[1])


def test_identical_images():
    _, source = pair(16, 12)
    scores = metrics.evaluate_lod(source + 0.4 / 255, source, ALL)
    assert set(scores["psnr"].values()) == {metrics.MAX_PSNR_DB}
    assert list(scores["ssim"].values()) == pytest.approx([1.0] * 8, abs=1e-6)
    assert scores["flip"] == {"diffuse": 0.0}
    assert scores["normal_degrees"] == pytest.approx(0, abs=1e-6)


# --- codes and bands


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(11, 12), (50, 31), (1, 7)], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_codes_by_bands_score_as_their_values_as_a_whole(monkeypatch, depth, size, threads):
    random = np.random.default_rng(2)
    top = np.iinfo(depth).max
    source = {name: random.integers(0, top + 1, (*size, count), depth) for name, count in MAPS.items()}
    decoded = {name: random.integers(0, 256, (*size, count), np.uint8) for name, count in MAPS.items()}
    planes = [np.concatenate([images[name] / scale for name in ALL], axis=2)
              for images, scale in ((decoded, 255), (source, top))]  # fmt: skip
    whole = metrics.evaluate_lod(*(torch.from_numpy(image).float() for image in planes), ALL)
    torch.set_num_threads(threads)
    monkeypatch.setattr(metrics, "TILE_VALUES", size[1] * 7)
    monkeypatch.setattr(metrics, "FLIP_TILE_VALUES", size[1] * 3 * 20)
    banded = metrics.evaluate_maps(decoded, source)
    for metric, tolerance in (("psnr", 1e-6), ("ssim", 1e-6), ("flip", 1e-6), ("lpips", 0)):
        assert banded[metric] == pytest.approx(whole[metric], abs=tolerance, nan_ok=False), metric
    assert banded["normal_degrees"] == pytest.approx(whole["normal_degrees"], abs=1e-6)
    parts = [(planes[0][..., map_slice(name)] - planes[1][..., map_slice(name)]) ** 2 for name in ALL]
    assert banded["psnr"]["all"] == pytest.approx(-10 * np.log10(np.concatenate(parts, axis=2).mean()), abs=1e-4)


def test_a_score_does_not_depend_on_the_threads(monkeypatch):
    decoded, source = pair(60, 40)
    monkeypatch.setattr(metrics, "TILE_VALUES", 40 * 8)
    scores = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        scores.append(metrics.evaluate_lod(decoded, source, ALL))
    assert scores[0] == scores[1] == scores[2]  # to the bit: tiles are added up in order


def test_psnr_imports_nothing_that_is_slow():
    script = (
        "import sys, torch, metrics; image = torch.rand(40, 40, 11)\n"
        "off = dict.fromkeys(('with_ssim', 'with_flip', 'with_lpips'), False)\n"
        "metrics.evaluate_lod(image, image, ['diffuse', 'normal'], **off)\n"
        "print(sorted({'torchvision', 'torchmetrics', 'cv2', 'flip_evaluator'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# --- what is there and what is not


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("present", [ALL, ["roughness"], ["normal", "displacement"]], ids=len)
def test_shape_of_the_result(size, present):
    decoded, source = pair(*size)
    decoded[0, 0] = math.nan  # a model that diverged
    scores = metrics.evaluate_lod(decoded, source, present)
    json.dumps(scores, allow_nan=False)
    for metric in ("psnr", "ssim", "lpips"):
        assert set(scores[metric]) == {"all", *present}
    assert set(scores["flip"]) == {"diffuse"} & set(present)
    assert ("normal_degrees" in scores) == ("normal" in present)
    assert None not in scores["psnr"].values()
    assert (scores["ssim"]["all"] is None) == (min(size) < 11)
    assert set(scores["lpips"].values()) == {None}


def test_absent_maps_change_nothing():
    decoded, source = pair(12, 20)
    scores = metrics.evaluate_lod(decoded, source, ["occlusion", "diffuse"])
    decoded[..., map_slice("normal")] = 1
    source[..., map_slice("metallic")] = 1
    assert metrics.evaluate_lod(decoded, source, ["diffuse", "occlusion"]) == scores
    kept = [*range(3), *range(7, 8)]
    assert scores["psnr"]["all"] == pytest.approx(psnr_float64(decoded[..., kept], source[..., kept]), abs=1e-5)


def test_switches_leave_none():
    decoded, source = pair(16, 16)
    scores = metrics.evaluate_lod(decoded, source, ["diffuse"], with_ssim=False, with_lpips=False, with_flip=False)
    nothing = {"all": None, "diffuse": None}
    assert scores["ssim"] == nothing and scores["lpips"] == nothing and scores["flip"] == {"diffuse": None}


@pytest.mark.parametrize(
    ("decoded", "source", "present", "says"),
    [
        (torch.zeros(4, 4, 11), torch.zeros(4, 5, 11), ALL, "(4, 5, 11)"),
        (torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), ALL, "(4, 4, 3)"),
        (torch.zeros(0, 4, 11), torch.zeros(0, 4, 11), ALL, "(0, 4, 11)"),
        (torch.zeros(4, 4, 11), torch.zeros(4, 4, 11), [], "present"),
        (torch.zeros(4, 4, 11), torch.zeros(4, 4, 11), ["albedo"], "albedo"),
        (torch.zeros(4, 4, 11), torch.full((4, 4, 11), math.nan), ALL, "finite"),
    ],
)
def test_wrong_arguments(decoded, source, present, says):
    with pytest.raises(ValueError) as caught:
        metrics.evaluate_lod(decoded, source, present)
    assert says in str(caught.value)


def test_lpips_leaves_gradients_and_random_numbers_alone(lpips_network):
    decoded, source = pair(33, 33)
    metrics._lpips_network.cache_clear()  # loading draws random numbers
    state = torch.get_rng_state()
    scores = metrics.evaluate_lod(decoded.requires_grad_(), source, ALL)
    assert None not in leaves(scores)
    assert torch.equal(torch.get_rng_state(), state) and decoded.grad is None


# --- SSIM


def ssim_float64(a, b):
    """Wang et al. 2004, equation 13, texel by texel with an 11 x 11 Gaussian of sigma 1.5 and mirrored borders."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width = a.shape
    a, b = (np.pad(image, 5, mode="reflect") for image in (a, b))
    total = 0.0
    for y, x in itertools.product(range(height), range(width)):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
        covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
        luminance = (2 * mean_p * mean_q + 0.01**2) / (mean_p**2 + mean_q**2 + 0.01**2)
        total += luminance * (2 * covariance + 0.03**2) / (var_p + var_q + 0.03**2)
    return total / (height * width)


@pytest.mark.parametrize("size", [(11, 11), (13, 17), (29, 11)], ids=str)
def test_ssim_is_the_published_formula(size):
    decoded, source = pair(*size)
    got = metrics.evaluate_lod(decoded, source, ALL, with_flip=False)["ssim"]
    shipped, original = shipped_float64(decoded), source.numpy().astype(np.float64)
    want = [ssim_float64(shipped[..., c], original[..., c]) for c in range(11)]
    per_map = [np.mean(want[map_slice(name)]) for name in ALL]
    assert [got[name] for name in ALL] == pytest.approx(per_map, abs=2e-5)  # worst seen: 1e-6
    assert got["all"] == pytest.approx(np.mean(per_map), abs=2e-5)


def torchmetrics_ssim(decoded, source):
    """SSIM of each channel of the whole image, float64: the field's definition."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    images = [image.double().permute(2, 0, 1)[:, None] for image in (decoded, source)]
    return structural_similarity_index_measure(*images, data_range=1.0, reduction="none").tolist()


@pytest.mark.parametrize("rows", [1, 4, 16, 1000])
def test_ssim_is_torchmetrics_whatever_the_tiles(monkeypatch, rows):
    decoded, source = (image.clamp(0, 1) for image in pair(39, 25))
    monkeypatch.setattr(metrics, "TILE_VALUES", 25 * 11 * rows)
    assert metrics.ssim_per_channel(decoded, source) == pytest.approx(torchmetrics_ssim(decoded, source), abs=1e-6)


@pytest.mark.parametrize("size", [(11, 11), (12, 71), (131, 17)], ids=str)
def test_ssim_of_flat_and_of_saturated_images_is_torchmetrics(size):
    """Where variances are lost in the rounding of float32: constants, one code of noise, black and white."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.tensor([0.0, 1 / 255, 0.5, 254 / 255, 1.0])
    source = levels.expand(*size, 5).contiguous()
    decoded = (source + torch.randint(-1, 2, (*size, 5), generator=generator) / 255).clamp(0, 1)
    for images in ((source, source), (decoded, source), (decoded, 1 - source), (source, source.flip(2))):
        got = metrics.ssim_per_channel(*images)
        assert got == pytest.approx(torchmetrics_ssim(*images), abs=5e-5)


# --- LPIPS


def test_lpips_with_a_network(lpips_network):
    decoded, source = (image.clamp(0, 1) for image in pair(33, 47))
    got = metrics.lpips(decoded[..., :3], source[..., :3])
    planes = [image[..., :3].permute(2, 0, 1)[None] for image in (decoded, source)]
    assert got == pytest.approx(lpips_network.net(*planes, normalize=True).item(), rel=1e-5) and got > 0
    grey = [image[..., 6:7] for image in (decoded, source)]
    assert metrics.lpips(*grey) == pytest.approx(metrics.lpips(*(image.expand(-1, -1, 3) for image in grey)))
    assert metrics.lpips(source[..., :3], source[..., :3]) == 0
    assert metrics.lpips_unavailable_reason() is None
    assert lpips_network.all_scores == []  # nothing piles up from LOD to LOD


@pytest.mark.parametrize(("size", "exists"), [((31, 64), False), ((64, 31), False), ((32, 32), True)], ids=str)
def test_lpips_needs_32_texels(lpips_network, size, exists):
    scores = metrics.evaluate_lod(*pair(*size), ["diffuse", "metallic"])
    assert all((value is not None) == exists for value in scores["lpips"].values())
    if exists:
        assert scores["lpips"]["all"] == pytest.approx((scores["lpips"]["diffuse"] + scores["lpips"]["metallic"]) / 2)


def test_lpips_of_a_large_image_is_the_area_mean_of_even_tiles(lpips_network, monkeypatch):
    decoded, source = (image[..., :3].clamp(0, 1) for image in pair(97, 64))
    monkeypatch.setattr(metrics, "LPIPS_TILE", 64)
    parts = [metrics.lpips(decoded[rows], source[rows]) for rows in (slice(0, 48), slice(48, 97))]
    assert metrics.lpips(decoded, source) == pytest.approx((48 * parts[0] + 49 * parts[1]) / 97, rel=1e-6)
    assert [(cut.start, cut.stop) for cut in metrics._even_cuts(129)] == [(0, 43), (43, 86), (86, 129)]


@pytest.fixture
def unreachable_weights(monkeypatch, hub):
    """An empty hub cache and a server that cannot be reached; counts the attempts."""
    attempts = []

    def refuse(url, **_):
        attempts.append(url)
        raise OSError("[Errno -2] Name or service\nnot known")

    monkeypatch.setattr(metrics.urllib.request, "urlopen", refuse)
    return attempts


def test_lpips_without_weights_is_one_line_and_no_attempt(unreachable_weights, tmp_path):
    scores = metrics.evaluate_lod(*pair(40, 40), ALL)
    assert set(scores["lpips"].values()) == {None}
    assert None not in leaves({**scores, "lpips": {}})  # everything else goes on
    reason = metrics.lpips_unavailable_reason()
    assert len(reason.splitlines()) == 1 and str(tmp_path) in reason and "--eval_metrics lpips" in reason
    assert unreachable_weights == [] and list(tmp_path.rglob("*")) == []


def test_lpips_of_another_torchvision_is_not_downloaded(unreachable_weights, hub):
    hub.parent.mkdir(parents=True)
    hub.with_name("alexnet-owt-00000000.pth").touch()
    reason = metrics.lpips_unavailable_reason()
    assert len(reason.splitlines()) == 1 and hub.name in reason and unreachable_weights == []


def test_lpips_download_that_fails_is_one_line_and_one_attempt(unreachable_weights, tmp_path, capfd, request):
    before = socket.getdefaulttimeout()
    request.addfinalizer(lambda: socket.setdefaulttimeout(before))
    socket.setdefaulttimeout(77)
    for _ in range(2):
        reason = metrics.download_lpips_weights()
        assert len(reason.splitlines()) == 1 and "not known" in reason and str(tmp_path) in reason
        assert set(metrics.evaluate_lod(*pair(40, 40), ALL)["lpips"].values()) == {None}
    assert len(unreachable_weights) == 1
    assert capfd.readouterr() == ("", "")  # the caller prints it, nothing else does
    assert list(tmp_path.rglob("*")) == []
    assert socket.getdefaulttimeout() == 77
    assert os.environ.get(metrics.WEIGHTS_ONLY, "0") == "0"


def test_lpips_uses_a_file_in_the_hub_cache_and_never_unpickles_code(unreachable_weights, hub, tmp_path):
    hub.parent.mkdir(parents=True)
    torch.save({"weights": Trap(tmp_path / "ran")}, hub)
    assert metrics.download_lpips_weights() is None  # it is there
    reason = metrics.lpips_unavailable_reason()
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
    monkeypatch.setattr(metrics, "NETWORK_SECONDS", 0.3)
    with metrics._load_settings():
        if case == "good":
            metrics._fetch(f"{url}/{path.name}", path)
            assert path.read_bytes() == b"weights"
            metrics._fetch("http://127.0.0.1:1/not-asked", path)  # it is there
        else:
            with pytest.raises((RuntimeError, OSError)):
                metrics._fetch(f"{url}/{path.name}", path)
    assert [found.name for found in path.parent.iterdir()] == ([path.name] if case == "good" else [])
    assert capfd.readouterr() == ("", "")


def test_lpips_gives_up_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "NETWORK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(OSError):
            metrics._fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/net-00000000.pth", tmp_path / "a" / "b.pth")
    assert time.monotonic() - start < 5 and not (tmp_path / "a").exists()


def test_lpips_gives_up_a_lookup_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "NETWORK_SECONDS", 0.1)
    monkeypatch.setattr(metrics.urllib.request, "urlopen", lambda url, **_: time.sleep(2))
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        metrics._fetch("http://localhost/net-00000000.pth", tmp_path / "net-00000000.pth")
    assert time.monotonic() - start < 1.5


def test_lpips_with_a_broken_torchvision(tmp_path):
    """In a process of its own: what torchvision cannot do must not keep anything else from being done."""
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "alexnet-owt-7be5be79.pth").touch()
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is gone')")
    script = (
        "import torch, metrics; image = torch.rand(40, 40, 11)\n"
        "scores = metrics.evaluate_lod(image, image, ['diffuse'])\n"
        "print(scores['psnr']['all'] > 40, scores['ssim']['all'] > 0.9, scores['lpips'])\n"
        "print(metrics.lpips_unavailable_reason())"
    )
    python_path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": python_path, "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "True True {'all': None, 'diffuse': None}"
    assert len(lines) == 2 and "nms is gone" in lines[1]


# --- FLIP


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_flip_is_the_packages_own(size, monkeypatch):
    flip_evaluator = pytest.importorskip("flip_evaluator")
    decoded, source = pair(*size)
    test, reference = (image[..., :3].contiguous().numpy() for image in (metrics.round_to_8_bit(decoded), source))
    _, want, _ = flip_evaluator.evaluate(reference, test, "LDR", inputsRGB=True)
    got = metrics.evaluate_lod(decoded, source, ALL, with_ssim=False)["flip"]["diffuse"]
    assert got == pytest.approx(want, abs=1e-6) and got > 0
    monkeypatch.setattr(metrics, "FLIP_TILE_VALUES", size[1] * 3 * 100)
    assert metrics.flip(torch.tensor(test), torch.tensor(reference)) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 7])
def test_flip_does_not_depend_on_the_tiles(monkeypatch, rows):
    pytest.importorskip("flip_evaluator")
    decoded, source = (image[..., :3].clamp(0, 1) for image in pair(45, 20, noise=0.5))
    whole = metrics.flip(decoded, source)
    monkeypatch.setattr(metrics, "FLIP_TILE_VALUES", 20 * 3 * rows)
    assert metrics.flip(decoded, source) == pytest.approx(whole, abs=1e-7)


def test_flip_missing_is_one_line(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    metrics._flip_evaluator.cache_clear()
    request.addfinalizer(metrics._flip_evaluator.cache_clear)
    scores = metrics.evaluate_lod(*pair(16, 16), ["diffuse"])
    assert scores["flip"] == {"diffuse": None} and scores["ssim"]["diffuse"] is not None
    reason = metrics.flip_unavailable_reason()
    assert len(reason.splitlines()) == 1 and "flip_evaluator" in reason


# --- normals, table, pictures


def test_normal_angle_error(monkeypatch):
    monkeypatch.setattr(metrics, "TILE_VALUES", 3 * 2)
    degrees = torch.tensor([[0.0, 30.0], [90.0, 180.0], [1e-4, 45.0]])
    length = torch.tensor([[1.0, 0.2], [0.5, 1.0], [0.7, 0.1]])  # the length says nothing
    angle = torch.deg2rad(degrees.double())
    decoded = torch.stack([length * angle.sin(), 0 * angle, length * angle.cos()], -1) * 0.5 + 0.5
    source = torch.tensor([0.5, 0.5, 1.0]).expand(3, 2, 3)
    assert metrics.normal_angle_error(decoded, source) == pytest.approx(degrees.double().mean().item(), abs=1e-6)
    assert metrics.normal_angle_error(source, torch.full((3, 2, 3), 0.5)) == 0  # no direction, no angle
    assert metrics.evaluate_lod(*pair(9, 8), ["normal"])["normal_degrees"] > 1


def test_format_table():
    lods = [metrics.evaluate_lod(*pair(size, size), ["diffuse", "normal"]) for size in (16, 4)]
    lines = metrics.format_table(lods).splitlines()
    assert metrics.format_table({"lods": lods}).splitlines() == lines
    assert len(lines) == 1 + 2 * 3 and len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["LOD", "map", "PSNR", "dB", "SSIM", "LPIPS", "FLIP", "degrees"]
    first, second = lods
    ssim, flip = f"{first['ssim']['diffuse']:.4f}", f"{first['flip']['diffuse']:.4f}"
    assert lines[1].split()[:3] == ["0", "all", f"{first['psnr']['all']:.2f}"]
    assert lines[2].split() == ["diffuse", f"{first['psnr']['diffuse']:.2f}", ssim, "-", flip, "-"]
    assert lines[3].split()[-1] == f"{first['normal_degrees']:.2f}"
    assert lines[4].split() == ["1", "all", f"{second['psnr']['all']:.2f}", "-", "-", "-", "-"]


def test_error_image():
    decoded = torch.tensor([[[0.5], [0.25], [1.0]]])
    source = torch.tensor([[[0.5], [0.26], [0.0]]])
    image = metrics.error_image(decoded, source)
    assert image.dtype == np.uint8 and image.flatten().tolist() == [0, round(0.01 * 8 * 255), 255]
    assert metrics.error_image(decoded, source, gain=1).flatten().tolist() == [0, 3, 255]


@pytest.mark.parametrize("name", ["normal", "metallic"])
def test_strip(name, monkeypatch):
    monkeypatch.setattr(metrics, "TILE_VALUES", 45)  # 2 to 6 rows
    decoded, source = (image[..., map_slice(name)] for image in pair(5, 7))
    codes = np.round(shipped_float64(decoded) * 255)
    original = np.round(source.numpy() * 255)
    want = np.concatenate([codes, original, np.minimum(abs(codes - original) * 8, 255)], axis=1)
    for images in ((decoded, source), (codes.astype(np.uint8), original.astype(np.uint8))):
        picture = np.concatenate(list(metrics.strip_bands(*images)))
        assert picture.shape == (5, 21, MAPS[name]) and picture.dtype == np.uint8
        assert np.array_equal(picture, want)


def test_pictures_of_16_bit_codes():
    """The nearest of 256 levels, halves up; differences are shown as they are, not of rounded codes."""
    source = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    exact = source.astype(np.float64) / 65535
    assert np.array_equal(metrics.picture(source), np.floor(exact * 255 + 0.5))
    decoded = metrics.picture(source)
    want = np.floor(np.minimum(abs(decoded / 255 - exact) * 8, 1) * 255 + 0.5)
    assert (metrics.error_image(decoded, source) != want).mean() < 1e-3  # float32 at a tie
    assert metrics.picture(decoded) is decoded
