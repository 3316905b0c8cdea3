"""A folder of PBR maps -> a `Material`: their channels and mips, valued as in the files (design.md, section 3)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torchtyping import TensorType

from common.parallel import map_threads
from maps.channels import NAMED_CHANNEL, SRGB_MAPS, canonical, channel_count, map_channels, map_size, map_slice
from maps.coverage import Coverage, coverage_of, opacity_chain, texels_near_test
from maps.extras import AUTO, Extras
from maps.images import encode_png
from maps.mips import Kind, LogLight, linear_to_srgb, mip_chain, mip_sizes, round_to_codes, srgb_to_linear
from maps.read_maps import read_maps
from maps.record import Constant, MapRecord, MaterialRecord, Origin

PNG_SAMPLE_TEXELS = 2**19  # of a map; of larger ones `Material.png_bytes` encodes every PNG_SAMPLE_STEP-th band
PNG_SAMPLE_ROWS, PNG_SAMPLE_STEP = 16, 4
# Mean difference of a normal's length from 1 up to which a normal map counts as unit vectors; rounding to 8 bits alone
# gives 0.0019. Decoded unit vectors cost PSNR where the source has others, measured at LOD 0: Metal055A (0.006) 1.0 dB
# of the normals' 48.0, Facade005 (0.022) 2.3 dB of 34.2, Rock058 (0.046) 1.9 dB of 30.6; data/test (0.0019) gains 0.1.
UNIT_NORMALS_TOLERANCE = 0.004

TexelIndex = TensorType["texels", torch.int64]
PresentValues = TensorType["texels", "present", torch.float32]
Positions = TensorType["texels", 2]
Lods = TensorType["texels"]
DecodedValues = TensorType[..., "channels"]
LevelValues = TensorType["height", "width", "channels", torch.float32]


def to_file_space(values: DecodedValues) -> DecodedValues:
    """Values whose diffuse was trained in linear light -> with an sRGB diffuse, as in the file."""
    color = map_slice("diffuse")
    return torch.cat([linear_to_srgb(values[..., color]), values[..., color.stop :]], dim=-1)


def _uniform_columns(codes: np.ndarray) -> list[int]:
    """Columns of (texels, C) codes with one value throughout; a column is read up to the first block that varies."""
    alike = np.arange(codes.shape[1])
    for first in range(0, len(codes), 2**18):
        if not len(alike):
            break
        alike = alike[(codes[first : first + 2**18, alike] == codes[0, alike]).all(axis=0)]
    return alike.tolist()


def _fill_chain(
    chain: np.ndarray, codes: np.ndarray, name: str, kind: Kind, coverage: Coverage | None, of_model: bool
) -> None:
    """Write the LODs of a map, (H, W, C) codes, to (texels of all LODs, C); see maps.coverage for opacity.

    of_model: it is to look as in a renderer, whose mips do not keep an opacity's coverage.
    """
    if name == "opacity":
        parts = opacity_chain(codes, averaged=of_model)
    else:
        parts = mip_chain(codes, kind, coverage.weights if coverage else None)
    for first, part in parts:
        chain[first : first + len(part)] = part
    if coverage and name != "opacity":
        height, width, channels = codes.shape
        sizes = mip_sizes(width, height)
        ends = np.cumsum([w * h for w, h in sizes])
        levels = [texels.reshape(h, w, channels) for texels, (w, h) in zip(np.split(chain, ends[:-1]), sizes)]
        coverage.fill(levels, kind)


def normal_length_error(codes: np.ndarray) -> float:
    """Mean of | |n| - 1 | over (H, W, 3) codes of a normal map, n = 2 code / top - 1."""
    step = max(1, 2**18 // codes.shape[1])

    def error_of(first: int) -> np.float64:
        vectors = codes[first : first + step].astype(np.float32) * np.float32(2 / np.iinfo(codes.dtype).max) - 1
        return np.abs(np.sqrt((vectors * vectors).sum(axis=-1)) - 1).sum(dtype=np.float64)

    total = sum(map_threads(error_of, range(0, len(codes), step)), 0.0)  # in order: threads do not change it
    return float(total / (codes.shape[0] * codes.shape[1]))


@dataclasses.dataclass(eq=False)
class Material:
    """All maps of one material and their mip chain, as integers; made by `load_material` or `Material.from_arrays`.

    A texel is named by its index in the flat chain, lod_offsets[l] + y * (width of LOD l) + x. Channels are those of
    the maps in `present`, in canonical order: `present_channels` holds the P of the 11, or of 16 with an extra map.
    """

    name: str
    width: int  # of LOD 0, texels
    height: int
    present: tuple[str, ...]  # map names, canonical order; the keys of the dicts below
    color_space: dict[str, str]  # 'srgb' or 'linear': of the values that `gather` returns and the network learns
    file_color_space: dict[str, str]  # of the files; differs for a diffuse that was decoded to linear light
    bit_depth: dict[str, int]  # 8 or 16, of the codes stored here
    file_bit_depth: dict[str, int]  # of the files; 16 for float files, which are converted to 16 bits
    codes8: torch.Tensor  # (texels of all LODs, channels of the 8-bit maps) uint8
    codes16: torch.Tensor  # (the same, of the 16-bit maps) int16 with the bits of uint16, which torch supports in part
    value_range: dict[str, tuple[float, float]]  # what 0 and 1 mean in the file's own units; (0, 1) except for floats
    files: dict[str, str]  # file name; of a packed file with the channel: brick_arm.png:G
    normal_convention: str  # 'gl', 'dx' or 'unknown'
    warnings: list[str]
    source_bytes: int  # size on disk of the files that were used
    constants: dict[int, Constant]  # by canonical channel, ascending: those of `present` with one value in all LODs
    unit_normals: bool  # whether LOD 0 of the normal map holds unit vectors
    near_test: tuple[np.ndarray, np.ndarray] | None = None  # indices and the file's opacity of texels of LOD 0, which
    # codes8 or codes16 have farther from an alpha test, see maps.coverage
    log_scale: dict[str, float] = dataclasses.field(default_factory=dict)  # of maps with light above 1: MapRecord's
    origin: Origin | None = None  # the model that it is of

    def __post_init__(self) -> None:
        self.lod_sizes = mip_sizes(self.width, self.height)  # (width, height) per LOD
        self.num_lods = len(self.lod_sizes)
        ends = np.cumsum([0] + [width * height for width, height in self.lod_sizes]).tolist()
        self.lod_offsets, self.num_texels = ends[:-1], ends[-1]
        stored = sorted(self.present, key=self.bit_depth.get)
        columns = [c for name in stored for c in map_channels(name)]  # of codes8 | codes16
        self.present_channels = torch.tensor(sorted(columns), device=self.codes8.device)  # (P,) int64
        self.stored_columns = np.argsort(columns).tolist()  # per present channel: where it stands in codes8 | codes16
        order = torch.tensor(self.stored_columns, device=self.codes8.device)
        self._order = None if columns == sorted(columns) else order
        self._png_bytes = 0  # not measured yet

    @classmethod
    def from_arrays(
        cls,
        name: str,
        arrays: Mapping[str, np.ndarray],
        *,
        color_space: Mapping[str, str] | None = None,
        linear_color: bool = False,
        value_range: Mapping[str, tuple[float, float]] | None = None,
        log_scale: Mapping[str, float] | None = None,
        files: Mapping[str, str] | None = None,
        normal_convention: str = "unknown",
        warnings: Iterable[str] = (),
        source_bytes: int = 0,
        origin: Origin | None = None,
    ) -> Material:
        """Build the mip chain of `arrays`: map name -> (H, W, C) or (H, W) uint8 or uint16, one size for all.

        What an opacity hides in the other maps is replaced, see maps.coverage, but in a material of a model (`origin`).

        Args:
            color_space: 'srgb' or 'linear' where it is not the default (diffuse and emissive srgb, the rest linear).
            linear_color: decode an sRGB diffuse to 16-bit linear light.
            value_range, log_scale: where the codes mean other units, see MapRecord.
        Raises: ValueError for arrays of other names, shapes or types.
        """
        planes = {n: array if array.ndim == 3 else array[..., None] for n, array in arrays.items()}
        for n, array in planes.items():
            if map_size(n) != array.shape[-1] or array.dtype not in (np.uint8, np.uint16) or not array.size:
                wanted = f"uint8 or uint16 of {map_size(n)} channels"
                raise ValueError(f"{n}: expected {wanted}, found {array.dtype} {array.shape}")
        if len(named := [n for n in planes if map_slice(n).start == NAMED_CHANNEL]) > 1:
            raise ValueError(f"expected one map of a name that is not ours, found {', '.join(named)}")
        if not (log_scale or {}).keys() <= (value_range or {}).keys():
            raise ValueError(f"log_scale: expected a value_range (0, high) of {', '.join(log_scale)}")
        if len({array.shape[:2] for array in planes.values()}) != 1:
            raise ValueError(f"expected maps of one size, found {[(n, a.shape) for n, a in planes.items()]}")
        present = tuple(canonical(planes))
        file_spaces = {n: (color_space or {}).get(n, "srgb" if n in SRGB_MAPS else "linear") for n in present}
        file_depths = {n: planes[n].itemsize * 8 for n in present}
        spaces, scales = dict(file_spaces), dict(log_scale or {})
        if linear_color and spaces.get("diffuse") == "srgb":
            top = np.iinfo(planes["diffuse"].dtype).max
            table = round_to_codes(srgb_to_linear(np.arange(top + 1) / top) * 65535, np.uint16)
            planes["diffuse"], spaces["diffuse"] = table[planes["diffuse"]], "linear"
        depths = {n: planes[n].itemsize * 8 for n in present}
        height, width = planes[present[0]].shape[:2]
        texels = sum(w * h for w, h in mip_sizes(width, height))
        chains, tasks = {}, []
        for bits, dtype in ((8, np.uint8), (16, np.uint16)):
            stored = [n for n in present if depths[n] == bits]
            chains[bits] = np.empty((texels, sum(map(map_size, stored))), dtype)
            column = 0
            for n in stored:
                tasks.append((n, chains[bits][:, column : column + map_size(n)]))
                column += map_size(n)

        # a renderer shows a model with plain averages of its images, and what is hidden in them at the edges
        coverage = coverage_of(planes["opacity"]) if "opacity" in planes and origin is None else None

        def fill(task: tuple[str, np.ndarray]) -> None:
            n, chain = task
            kind = LogLight(scales[n], value_range[n][1]) if n in scales else "normal" if n == "normal" else spaces[n]
            _fill_chain(chain, planes[n], n, kind, coverage, origin is not None)

        list(map_threads(fill, tasks))
        constants = {}
        for bits, chain in chains.items():
            columns = [c for n in present if depths[n] == bits for c in map_channels(n)]
            constants.update({columns[i]: Constant(int(chain[0, i]), bits) for i in _uniform_columns(chain)})
        normals = dict(tasks).get("normal")  # as filled: what lies under transparent texels need not be unit vectors
        unit_normals = normals is not None and (
            normal_length_error(normals[: height * width].reshape(height, width, -1)) <= UNIT_NORMALS_TOLERANCE
        )
        return cls(
            *(name, width, height, present, spaces, file_spaces, depths, file_depths),
            codes8=torch.from_numpy(chains[8]),
            codes16=torch.from_numpy(chains[16].view(np.int16)),
            value_range={n: (value_range or {}).get(n, (0.0, 1.0)) for n in present},
            files={n: (files or {}).get(n, "") for n in present},
            normal_convention=normal_convention,
            warnings=list(warnings),
            source_bytes=source_bytes,
            constants=dict(sorted(constants.items())),
            unit_normals=unit_normals,
            near_test=texels_near_test(planes["opacity"]) if "opacity" in planes else None,
            log_scale=scales,
            origin=origin,
        )

    @property
    def channels(self) -> int:
        """11, or 16 with an extra map."""
        return channel_count(self.present)

    def to(self, device: str | torch.device) -> Material:
        """The same material with its texels on `device`."""
        return dataclasses.replace(self, codes8=self.codes8.to(device), codes16=self.codes16.to(device))

    @functools.cached_property
    def sha256(self) -> str:
        """Hex digest of LOD 0 as stored, map after map; zeros where opacity hides the other maps.

        What fills those comes from averages, whose last bits are not the same on every processor.
        """
        digest = hashlib.sha256()
        coverage = coverage_of(self.stored(0, "opacity")) if "opacity" in self.present else None
        for name in self.present:
            codes = self.stored(0, name)
            if coverage and name != "opacity":
                codes = np.where(coverage.empty[0][..., None], codes.dtype.type(0), codes)
            digest.update(codes.tobytes())
        return digest.hexdigest()

    @property
    def record(self) -> MaterialRecord:
        """This material without its texels and their hash."""
        maps = tuple(self._map_record(n) for n in self.present)
        return MaterialRecord(self.name, self.width, self.height, maps, origin=self.origin)

    @property
    def hashed_record(self) -> MaterialRecord:
        """`record` with `sha256`, as files keep it; the first call reads all texels of LOD 0."""
        return dataclasses.replace(self.record, sha256=self.sha256)

    def _map_record(self, name: str) -> MapRecord:
        spaces = self.color_space[name], self.file_color_space[name]
        normal = (self.normal_convention, self.unit_normals) if name == "normal" else ()
        return MapRecord(
            name, *spaces, self.file_bit_depth[name], self.files[name], tuple(self.value_range[name]), *normal,
            log_scale=self.log_scale.get(name),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the stored mip chain."""
        return sum(codes.numel() * codes.element_size() for codes in (self.codes8, self.codes16))

    def gather(self, index: TexelIndex) -> PresentValues:
        """Values in [0, 1], in `color_space`, of the present channels at flat texel indices on the material's device.

        Raises: IndexError (CPU) for an index outside 0..num_texels-1.
        """
        parts = []
        if self.codes8.shape[1]:
            parts.append(self.codes8.index_select(0, index).float().div_(255))
        if self.codes16.shape[1]:
            parts.append((self.codes16.index_select(0, index).int() & 0xFFFF).float().div_(65535))
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return values if self._order is None else values.index_select(1, self._order)

    def filtered(self, uv: Positions, lod: Lods) -> PresentValues:
        """What a GPU's sampler with Wrap makes of `gather`'s values: bilinear between the texels of each of the two
        LODs around `lod`, linear between the LODs.

        Args:
            uv: (n, 2) float32, any real number.
            lod: (n,) float32; beyond the first or last LOD: that LOD.
        """
        lod = lod.clamp(0, self.num_lods - 1)
        lower = lod.long()  # truncated
        near = self._bilinear(uv, lower)
        far = self._bilinear(uv, (lower + 1).clamp(max=self.num_lods - 1))
        return torch.lerp(near, far, (lod - lower)[:, None])

    def _bilinear(self, uv: Positions, lod: TexelIndex) -> PresentValues:
        """Samples of whole LODs."""
        size = torch.tensor(self.lod_sizes, device=uv.device)[lod]
        position = (uv - uv.floor()) * size - 0.5
        corner = position.floor()
        right, down = (position - corner).unbind(1)
        left, top = torch.remainder(corner.long(), size).unbind(1)
        after, below = torch.remainder(corner.long() + 1, size).unbind(1)
        first = torch.tensor(self.lod_offsets, device=uv.device)[lod]

        def between(y: TexelIndex) -> PresentValues:
            row = first + y * size[:, 0]
            return torch.lerp(self.gather(row + left), self.gather(row + after), right[:, None])

        return torch.lerp(between(top), between(below), down[:, None])

    def stored(self, lod: int, map_name: str, rows: slice = slice(None)) -> np.ndarray:
        """(H, W, C) uint8 or uint16 codes of one map at one LOD; `rows` limits them to rows of the LOD.

        They are those of `gather`, except that opacity near an alpha test is as in the file, see `near_test`.
        """
        bits = self.bit_depth[map_name]
        before = self.present[: self.present.index(map_name)]
        column = sum(map_size(name) for name in before if self.bit_depth[name] == bits)
        width, height = self.lod_sizes[lod]
        first, last, _ = rows.indices(height)
        texels = slice(self.lod_offsets[lod] + first * width, self.lod_offsets[lod] + last * width)
        codes = (self.codes8 if bits == 8 else self.codes16)[texels, column : column + map_size(map_name)]
        codes = codes.reshape(last - first, width, map_size(map_name)).cpu().numpy()
        codes = codes if bits == 8 else codes.view(np.uint16)
        if lod == 0 and map_name == "opacity" and self.near_test:
            index, original = self.near_test
            here = slice(*np.searchsorted(index, (first * width, last * width)))
            codes = codes.copy()
            codes.reshape(-1)[index[here] - first * width] = original[here]
        return codes

    def file_codes(self, lod: int, map_name: str, rows: slice = slice(None)) -> np.ndarray:
        """(H, W, C) codes as of `stored`, in the colour space and bit depth of the file."""
        codes = self.stored(lod, map_name, rows)
        if self.color_space[map_name] == self.file_color_space[map_name]:
            return codes
        bits = self.file_bit_depth[map_name]
        return round_to_codes(linear_to_srgb(np.arange(65536) / 65535) * (2**bits - 1), np.dtype(f"uint{bits}"))[codes]

    def texels(self, lod: int, rows: slice = slice(None)) -> LevelValues:
        """Values in [0, 1], in `file_color_space`, of one LOD: the reference of every metric; missing maps are 0.

        At LOD 0 they are exactly the files' values (also after `linear_color` where the file has 8 bits), except under
        transparent texels, see maps.coverage. `rows` limits them to rows of the LOD: a whole 4096x4096 one takes 740
        MB.
        """
        width, height = self.lod_sizes[lod]
        values = np.zeros((len(range(height)[rows]), width, self.channels), np.float32)
        for name in self.present:
            codes = self.file_codes(lod, name, rows)
            values[..., map_slice(name)] = codes.astype(np.float32) / np.float32(np.iinfo(codes.dtype).max)
        return torch.from_numpy(values).to(self.codes8.device)

    def to_file_space(self, values: DecodedValues) -> DecodedValues:
        """Values in `color_space` -> `file_color_space`: a diffuse that was decoded is encoded again."""
        return values if self.color_space == self.file_color_space else to_file_space(values)

    def png_bytes(self) -> int:
        """Bytes of all maps of LOD 0 as PNG files with the files' bit depth.

        For maps above PNG_SAMPLE_TEXELS an estimate from a quarter of the rows, in bands: 0.7 to 1.2 % too large for
        three real materials of 1024 x 1024, and seconds sooner at 4096 x 4096. The result is kept.
        """
        rows = [slice(0, self.height)]
        if self.width * self.height > PNG_SAMPLE_TEXELS:
            starts = range(0, self.height, PNG_SAMPLE_ROWS * PNG_SAMPLE_STEP)
            rows = [slice(start, min(start + PNG_SAMPLE_ROWS, self.height)) for start in starts]
        if not self._png_bytes:
            bands = [(name, part) for name in self.present for part in rows]
            encoded = sum(map_threads(lambda band: len(encode_png(self.file_codes(0, *band))), bands))
            self._png_bytes = round(encoded * self.height / sum(part.stop - part.start for part in rows))
        return self._png_bytes


def load_material(
    folder: str | Path,
    linear_color: bool = False,
    max_pixels: int | None = None,
    by_hand: str = "",
    size: str = "",
    extras: Extras = AUTO,
    material: str = "",
) -> Material:
    """Read the maps of a folder or of a model's material, see `maps.read_maps.read_maps`, and make their mip chain.

    Args:
        linear_color: decode an sRGB diffuse to 16-bit linear light; `texels` and `to_file_space` still return sRGB.
        max_pixels, by_hand, size, extras, material: as in `read_maps`.
    Raises: UserError for a folder or a file that cannot be used.
    """
    found = read_maps(folder, max_pixels, by_hand, size, extras, material)
    return Material.from_arrays(
        found.name,
        found.arrays,
        color_space=found.color_space,
        linear_color=linear_color,
        value_range=found.value_range,
        log_scale=found.log_scale,
        files=found.files,
        normal_convention=found.convention,
        warnings=found.notes,
        source_bytes=found.source_bytes,
        origin=found.origin,
    )
