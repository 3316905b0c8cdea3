"""A material's LOD 0 in other codecs, to compare with: BC1..BC7 and ASTC as engines use them, AVIF and JPEG XL.

An optional extra, requirements/codecs.txt. (Not `codecs.py`: Python has a module of that name and never lets go of it.)
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import math
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from formats.dds import BLOCK_BYTES
from maps.channels import canonical, map_size, map_slice
from transcode.opaque_bc7 import opaque_blocks

if TYPE_CHECKING:
    from dataset import Material
    from metrics.scores import MaterialImage

BC7_PROFILE = "basic"  # of ISPC Texture Compressor: "slow" takes 4 times as long for less than 0.1 dB
ASTC_QUALITY = 60  # astcenc -medium
AVIF_SPEED = 6  # of libavif, 0..10; 4 takes 5 to 10 times as long for about 0.3 dB at equal rate
JPEG_XL_EFFORT = 7  # libjxl's own default
ASTC_BLOCKS = (4, 5, 6, 8, 10, 12)
BLOCK_CODECS = ("bc1", "bc7", "bc7+bc5+bc4", *(f"astc{n}x{n}" for n in ASTC_BLOCKS))
QUALITIES = {  # of the image codecs, ascending in rate: from blurred to almost lossless
    "avif": (10, 25, 40, 55, 70, 80, 88, 94, 98),
    "jxl": (10, 30, 50, 65, 78, 88, 94, 97, 99),
}
IMAGE_CODECS = tuple(QUALITIES)
CODECS = BLOCK_CODECS + IMAGE_CODECS
DEFAULT_QUALITY = {"avif": 70, "jxl": 78}
SCALARS_PER_IMAGE = 3
_PSNR_ALONE = {"with_ssim": False, "with_lpips": False, "with_flip": False}
_ADVICE = "pip install -r requirements/codecs.txt"

Planes = np.ndarray  # (H, W, C) uint8
Coded = tuple[int, Planes]  # bytes, and what a reader gets back


@dataclasses.dataclass(frozen=True)
class CodecResult:
    """A material encoded and decoded by a codec.

    decoded: (H, W, 11, or 16 with an extra map) float32 in [0, 1], in the files' colour spaces; missing maps are 0.
    bytes, bpp: of LOD 0, all maps together; bits per texel of the material.
    seconds: encoding alone, without decoding and without packing maps into images.
    psnr: dB, "all" and per map, as scores.evaluate_lod has it.
    """

    codec: str
    quality: int | None  # of the image codecs
    decoded: MaterialImage
    bytes: int
    bpp: float
    seconds: float
    settings: dict[str, Any]
    psnr: dict[str, float]


def encode_decode(material: Material, codec: str, quality: int | None = None) -> CodecResult:
    """Encode LOD 0 of `material`, decode it again, and compare it with the source.

    16-bit maps are rounded to 8 bits before encoding, but compared at 16 bits; of light above 1 both are logarithms, as
    the network gets them. Coding takes memory for one image of four channels at a time, the result 44 bytes a texel, or
    64, and the comparison that of scores.evaluate_lod.

    Args:
        codec: one of CODECS.
        quality: of `avif` and `jxl`, 0..100; None: DEFAULT_QUALITY. Block codecs have none.
    Raises: UserError for an unknown codec, a quality that does not apply, or a package that is not installed.
    """
    if codec not in CODECS:
        raise UserError(f"codec: expected one of {', '.join(CODECS)}, got {codec!r:.80}")
    if codec in BLOCK_CODECS and quality is not None:
        raise UserError(f"codec {codec}: expected no quality, its rate is fixed, got {quality}")
    if codec in IMAGE_CODECS:
        quality = DEFAULT_QUALITY[codec] if quality is None else quality
        if not 0 <= quality <= 100:
            raise UserError(f"codec {codec}: expected a quality from 0 to 100, got {quality}")
    import torch

    from metrics.scores import evaluate_lod

    timer = _Timer()
    decoded = torch.zeros(material.height, material.width, material.channels)
    size, settings = 0, {}
    for names, channels in image_layout(material.present, codec):
        pixels = _pack(material, names, channels)
        coded, planes, used = _code_image(codec, names, pixels, quality, timer)
        size += coded
        settings.update(used)
        for name, plane in zip(names, _unpack(planes, names, channels)):
            decoded[..., map_slice(name)] = torch.from_numpy(plane.astype(np.float32) / np.float32(255))
    bpp = size * 8 / (material.width * material.height)
    scores = evaluate_lod(decoded, material.texels(0).cpu(), material.present, **_PSNR_ALONE)
    return CodecResult(codec, quality, decoded, size, bpp, timer.seconds, settings, scores["psnr"])


def interpolate_at_rate(rates: Sequence[float], values: Sequence[float], bpp: float) -> float | None:
    """A measure at `bpp`, linear in the logarithm of the rate between the two measured rates around it.

    Measurements that another one beats with fewer bits are left out, as nobody would use them (JPEG XL has such).

    Args:
        rates: bpp of each measurement, in any order.
        values: PSNR in dB, or another measure whose larger values are better, of each.
    Returns: None where `bpp` lies outside the measured rates: nothing is extrapolated.
    """
    if not rates or not min(rates) <= bpp <= max(rates):
        return None
    points: dict[float, float] = {}
    for rate, value in sorted(zip(rates, values), key=lambda point: (point[0], -point[1])):
        if value > max(points.values(), default=-math.inf):
            points[rate] = value
    # past the last point, where only beaten measurements were, the last one's value holds
    return float(np.interp(math.log(bpp), [math.log(rate) for rate in points], list(points.values())))


# --- maps and images -----------------------------------------------------------------------------------------------


def image_layout(present: Sequence[str], codec: str) -> list[tuple[tuple[str, ...], int]]:
    """The images that a codec stores for the maps `present`: (map names, channels) of each.

    Block codecs get colour, normal, and up to three scalar maps per image. Opacity is the alpha of the colour where the
    blocks hold one, else a scalar map. A scalar map that is alone in its image is a grey plane, and so is every one of
    the image codecs and BC4: their colour transforms suit no unrelated maps.
    """
    per_image = SCALARS_PER_IMAGE if codec in BLOCK_CODECS and codec != "bc7+bc5+bc4" else 1
    alpha = codec in BLOCK_CODECS and codec != "bc1" and {"diffuse", "opacity"} <= set(present)
    scalars = [name for name in canonical(present) if map_size(name) == 1 and not (alpha and name == "opacity")]
    images: list[tuple[tuple[str, ...], int]] = []
    for name in canonical(present):
        if map_size(name) == 3:
            images.append((("diffuse", "opacity"), 4) if alpha and name == "diffuse" else ((name,), 3))
    for first in range(0, len(scalars), per_image):
        names = tuple(scalars[first : first + per_image])
        images.append((names, 1 if len(names) == 1 else 3))
    return images


def _pack(material: Material, names: Sequence[str], channels: int) -> Planes:
    """(H, W, channels) uint8 of the maps' codes; an unused blue is 0."""
    pixels = np.zeros((material.height, material.width, channels), np.uint8)
    column = 0
    for name in names:
        codes = material.file_codes(0, name)
        if codes.dtype == np.uint16:
            codes = (codes.astype(np.uint32) * 2 + 257) // 514  # codes / 257, halves up
        pixels[..., column : column + map_size(name)] = codes
        column += map_size(name)
    return pixels


def _unpack(planes: Planes, names: Sequence[str], channels: int) -> list[Planes]:
    """The inverse: (H, W, C) of each map."""
    if channels == 3 and len(names) == 1:
        return [planes]
    if channels == 4:
        return [planes[..., :3], planes[..., 3:]]
    return [planes[..., column : column + 1] for column in range(len(names))]


def _pad(pixels: Planes, block: int) -> Planes:
    """Both sides a multiple of `block`, the last row and column repeated."""
    missing = [-size % block for size in pixels.shape[:2]]
    return np.ascontiguousarray(np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="edge"))


# --- codecs --------------------------------------------------------------------------------------------------------


class _Timer:
    """Adds up the seconds of the calls that it runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments, **options)
        self.seconds += time.perf_counter() - started
        return result


def _code_image(
    codec: str, names: Sequence[str], pixels: Planes, quality: int | None, timer: _Timer
) -> tuple[int, Planes, dict[str, Any]]:
    """(bytes, decoded image like `pixels`, settings) of one image."""
    if codec == "avif":
        size, planes = _avif(pixels, quality, timer)
        return size, planes, {"speed": AVIF_SPEED, "subsampling": "4:4:4, scalars 4:0:0", "threads": thread_count()}
    if codec == "jxl":
        size, planes = _jpeg_xl(pixels, quality, timer)
        return size, planes, {"effort": JPEG_XL_EFFORT, "threads": thread_count()}
    form = _format_of(codec, names)
    height, width = pixels.shape[:2]
    if form.startswith("astc"):
        size, planes = _astc(pixels, int(form.rpartition("x")[2]), timer)
        settings = {"quality": ASTC_QUALITY, "decode_mode": "unorm8", "threads": thread_count()}
    else:
        size, planes = _block_compression(form, pixels, timer)
        settings = {"bc7_profile": BC7_PROFILE} if form == "bc7" else {}
        settings["threads"] = 1  # ispc_texcomp holds Python's lock
    planes = planes[:height, :width, : max(pixels.shape[2], 3)]
    if pixels.shape[2] == 1:
        # a grey picture: green has the most bits in BC1
        planes = planes[..., :1] if planes.shape[2] == 1 else planes[..., 1:2]
    return size, planes, settings


def _format_of(codec: str, names: Sequence[str]) -> str:
    """The block format of one image: that of the codec, or its part of the mixed one."""
    if codec != "bc7+bc5+bc4":
        return codec
    return "bc5" if names == ("normal",) else "bc4" if map_size(names[0]) == 1 else "bc7"


def _as_rgba(pixels: Planes) -> Planes:
    """(H, W, 4); grey is repeated, and what has no alpha is opaque."""
    if pixels.shape[2] == 4:
        return pixels
    opaque = np.full(pixels.shape[:2], 255, np.uint8)
    return np.dstack([np.broadcast_to(pixels, (*pixels.shape[:2], 3)), opaque])


def encode_blocks(form: str, pixels: Planes, bc7_profile: str = BC7_PROFILE) -> bytes:
    """The blocks of one image, row by row; where a side is no multiple of 4, its last row or column is repeated.

    Args:
        form: 'bc1', 'bc4', 'bc5', 'bc6h' or 'bc7'.
        pixels: (H, W, C) uint8 of any size; C is 1 for bc4, at least 2 for bc5, which stores the first two, 1 or 3 for
            bc1, also 4 for bc7, whose fourth is alpha. Of bc6h (H, W, 3) float16, none below 0.
        bc7_profile: of ISPC Texture Compressor, such as 'basic' or 'slow'; of BC7 and BC6H.
    Raises: UserError when the encoder is not installed.
    """
    if form == "bc7" and pixels.shape[2] == 4:
        return _blocks_with_alpha(_pad(pixels, 4), bc7_profile)
    if form in ("bc1", "bc7"):
        pixels = _as_rgba(pixels)
    elif form == "bc6h":
        pixels = np.dstack([pixels, np.ones_like(pixels[..., 0])])  # that is how the encoder takes them
    pixels = _pad(pixels[..., :2] if form == "bc5" else pixels, 4)
    blocks = _compressed(form, pixels, bc7_profile)
    return opaque_blocks(blocks, pixels, bc7_profile) if form == "bc7" else blocks


def _compressed(form: str, pixels: np.ndarray, profile: str) -> bytes:
    """The encoder's blocks of an image whose sides are multiples of 4."""
    texcomp = block_encoder()
    settings = {"bc6h": "BC6HEncSettings", "bc7": "BC7EncSettings"}
    if form == "bc6h" and profile == "veryfast":
        profile = "fast"  # the fastest made 83 of a peak of 50 one texel wide; it saves 0.1 s at 512 x 512
    options = [getattr(texcomp, settings[form]).from_profile(profile)] if form in settings else []
    blocks = getattr(texcomp, f"compress_blocks_{form}")(_surface(pixels), *options)
    return blocks[: pixels.shape[0] * pixels.shape[1] // 16 * BLOCK_BYTES[form]]  # of BC1 as much again in zeros


def _surface(pixels: np.ndarray) -> Any:
    height, width = pixels.shape[:2]
    return block_encoder().RGBASurface(pixels.tobytes(), width, height, pixels.strides[0])


def _blocks_with_alpha(pixels: Planes, profile: str) -> bytes:
    """BC7 blocks of (H, W, 4) pixels whose sides are multiples of 4.

    With all its modes the encoder makes 251 of an alpha of 255, or 4 of 0. So blocks that are opaque throughout are
    encoded as an opaque image's, and those that are transparent throughout in the modes with an alpha of their own.
    """
    height, width = pixels.shape[:2]
    texels = pixels.reshape(height // 4, 4, width // 4, 4, 4).swapaxes(1, 2).reshape(-1, 4, 4, 4)
    opaque, empty = ((texels[..., 3] == level).all(axis=(1, 2)) for level in (255, 0))
    blocks = np.empty((len(texels), 16), np.uint8)
    for chosen, encode in (
        (opaque, lambda strip: encode_blocks("bc7", strip[..., :3], profile)),
        (empty, _empty_blocks),
        (~(opaque | empty), lambda strip: _compressed("bc7", strip, f"alpha_{profile}")),
    ):
        if chosen.any():
            strip = np.ascontiguousarray(texels[chosen].swapaxes(0, 1).reshape(4, -1, 4))  # one row of blocks
            blocks[chosen] = np.frombuffer(encode(strip), np.uint8).reshape(-1, 16)
    return blocks.tobytes()


def _empty_blocks(pixels: Planes) -> bytes:
    """BC7 blocks in modes 4 and 5, which keep an alpha that is the same in a whole block; 0.2 dB less for colours."""
    texcomp = block_encoder()
    modes, refinements = [False, False, True, False], [2] * 8  # modes: 0 and 2 | 1, 3, 7 | 4, 5 | 6
    settings = texcomp.BC7EncSettings(modes, refinements, True, 0, 0, 0, 0, 2, 4)
    return texcomp.compress_blocks_bc7(_surface(pixels), settings)


def block_encoder() -> ModuleType:
    """The library that encodes BC1, BC4, BC5, BC6H and BC7. Raises: UserError when it is not installed."""
    return _package("ispc_texcomp")


def _block_compression(form: str, pixels: Planes, timer: _Timer) -> Coded:
    """BC1, BC4, BC5 (x and y of a normal, z rebuilt) or BC7 of one image, its decoded size a multiple of 4."""
    imagecodecs = _package("imagecodecs")
    blocks = timer.run(encode_blocks, form, pixels)
    height, width = (-(-size // 4) * 4 for size in pixels.shape[:2])
    shape = {"bc4": (height, width), "bc5": (height, width, 2)}.get(form, (height, width, 4))
    planes = imagecodecs.bcn_decode(blocks, int(form[2]), shape=shape).reshape(height, width, -1)
    if form == "bc5":
        planes = np.dstack([planes, _rebuilt_z(planes)])
    return len(blocks), planes


def _rebuilt_z(planes: Planes) -> Planes:
    """(H, W) uint8 z of unit normals from their (H, W, 2) x and y: what a shader does after a BC5 fetch."""
    x, y = (planes[..., axis].astype(np.float32) * np.float32(2 / 255) - 1 for axis in (0, 1))
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    return np.floor((z * 0.5 + 0.5) * 255 + 0.5).astype(np.uint8)


def _astc(pixels: Planes, block: int, timer: _Timer) -> Coded:
    """LDR (not sRGB: the codes are data) ASTC with astcenc, which pads by repeating edges itself."""
    astc = _package("astc_encoder")
    swizzle = astc.ASTCSwizzle.from_str("RGBA" if pixels.shape[2] == 4 else "RGB1")  # 1: its search knows of no alpha
    pixels = _as_rgba(pixels)
    height, width = pixels.shape[:2]
    # GPUs can return 8 bits (VK_EXT_astc_decode_mode), and the encoder can optimise for that rounding
    flags = astc.ASTCConfigFlags.USE_DECODE_UNORM8
    config = astc.ASTCConfig(astc.ASTCProfile.LDR, block, block, 1, ASTC_QUALITY, flags)
    context = astc.ASTCContext(config, thread_count())
    image = astc.ASTCImage(astc.ASTCType.U8, width, height, 1, pixels.tobytes())
    blocks = timer.run(context.compress, image, swizzle)
    target = astc.ASTCImage(astc.ASTCType.U8, width, height, 1)
    target = context.decompress(blocks, target, astc.ASTCSwizzle.from_str("RGBA"))
    planes = np.frombuffer(target.data, np.uint8).reshape(height, width, 4)
    return len(blocks), planes


def _avif(pixels: Planes, quality: int | None, timer: _Timer) -> Coded:
    from PIL import Image, features

    if not features.check("avif"):
        raise UserError(f"codec avif: expected Pillow 11.3 or newer with AVIF, found one without; {_ADVICE}")
    grey = pixels.shape[2] == 1
    stream = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    options = {"quality": quality, "speed": AVIF_SPEED, "subsampling": "4:0:0" if grey else "4:4:4"}
    timer.run(picture.save, stream, "AVIF", max_threads=thread_count(), **options)
    with Image.open(stream) as decoded:
        planes = np.asarray(decoded.convert("L" if grey else "RGB"))
    return len(stream.getvalue()), planes.reshape(pixels.shape)


def _jpeg_xl(pixels: Planes, quality: int | None, timer: _Timer) -> Coded:
    imagecodecs = _package("imagecodecs")
    data = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    payload = timer.run(
        imagecodecs.jpegxl_encode,
        np.ascontiguousarray(data),
        level=quality,
        effort=JPEG_XL_EFFORT,
        numthreads=thread_count(),
    )
    return len(payload), imagecodecs.jpegxl_decode(payload).reshape(pixels.shape)


def thread_count() -> int:
    """Threads for codecs that take a number: as many as PyTorch uses."""
    import torch

    return max(torch.get_num_threads(), 1)


def missing_packages(codec: str) -> list[str]:
    """What `codec` needs and this machine lacks, as modules to import; empty where it works."""
    needed = ("astc_encoder",) if codec.startswith("astc") else ("ispc_texcomp", "imagecodecs")
    needed = {"avif": (), "jxl": ("imagecodecs",)}.get(codec, needed)
    missing = []
    for name in needed:
        try:
            _package(name)
        except UserError:
            missing.append(name)
    if codec == "avif":
        from PIL import features

        missing += [] if features.check("avif") else ["Pillow with AVIF"]
    return missing


@functools.cache
def _package(name: str) -> ModuleType:
    """Import a module of requirements/codecs.txt."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a wheel for another machine raises anything
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"this codec needs the package {name}, which cannot be imported ({what}); {_ADVICE}") from error
