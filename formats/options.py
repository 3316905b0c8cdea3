"""Every knob of export.py, once: default, help, unit and range. Those of train.py are in configs.py."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError, brief, one_line
from common.knobs import OneLineParser, add_flags, check_values, knob
from configs import LAYOUTS, MAX_PIXELS, MOST_PIXELS

LATENTS_FORMATS = ("dds", "ktx2", "ktx", "rgba8", "astc")
TEXTURE_FORMATS = ("dds", "ktx2", "png", "glb")
SCALAR_TEXTURES = ("bc4", "orm_bc7", "orm_bc1")
BC7_EFFORTS = ("fast", "normal", "slow")
TRANSCODE_DEVICES = ("cpu", "gpu")
FALLBACKS = ("jpeg", "png", "none")
SHADER_LANGUAGES = ("hlsl", "glsl", "essl", "wgsl", "metal")
SLANG = "slang"  # beside them: the source of all, which engines with Slang compile themselves
ON_LOAD_LANGUAGES = ("hlsl", "glsl", "wgsl")  # those with compute shaders
SHADER_WEIGHTS = ("baked", "buffer")
SHADER_WEIGHT_TYPES = ("auto", "float32", "float16", "int8")
SHADER_PRECISIONS = (32, 16, 8)


@dataclass(frozen=True)
class ExportOptions:
    """The flags of export.py. Field order is the order of `--help`."""

    load_dir: str = knob("", "run folder (outputs/<run>), or a folder with an export", unit="path", section="most used")
    out_dir: str = knob("", "folder that receives the files", unit="path")
    images: bool = knob(False, "decode the exported files to one PNG per map and LOD in out_dir/images")
    describe: str = knob("", "print what the exported files in a folder, or of a run's checkpoint, are, and check "
                         "them; files of the ancestor project too", unit="path")  # fmt: skip
    viewer: str = knob("", "write one HTML page that shows the material, or all of a batch folder, decoded live in a "
                       "browser", unit="path")  # fmt: skip
    transcode: str = knob("", f"write ordinary textures of the decoded maps to out_dir/transcoded: some of "
                          f"{', '.join(TEXTURE_FORMATS)}; without a value all of them", unit="formats",
                          bare=",".join(TEXTURE_FORMATS))  # fmt: skip
    gltf: str = knob("", "write the glTF model that a batch folder or run was trained on as one .glb with neural "
                     "textures (extension NTX_neural_texture), and ordinary ones for other viewers; without --load_dir "
                     "the newest runs of a model in ./outputs", unit="path")  # fmt: skip
    tsnc: str = knob("", "write the files that Intel's sample of texture set neural compression loads, of a run with "
                     "--latents bc1 --decoder tsnc", unit="path")  # fmt: skip
    shader: str = knob("", "write decoders for shaders to out_dir: any of hlsl,glsl,essl,wgsl,metal,slang",
                      unit="languages")  # fmt: skip

    load_iter: int = knob(-1, "iteration; -1: the newest checkpoint", low=-1, section="reading")
    max_pixels: int = knob(MAX_PIXELS, "largest material to decode, for --images and --transcode, and largest source "
                           "map to read, for --viewer: width x height of LOD 0", unit="pixels", low=1,
                           high=MOST_PIXELS)  # fmt: skip
    assume: str = knob("", "what files without a manifest do not say, for --images: size=WxH, "
                       "sampling=sampler|vertex|aligned, output=none|leaky_relu|hard_swish|hard_gelu, quantize_bits=N",
                       unit="key=value,...")  # fmt: skip

    dds_layout: str = knob(
        "", "of the DDS files, and of the decoder that --shader writes for them. packed: words of several features; "
        "filterable: an 8-bit channel per feature, for the hardware's filter; bgra4: the same for 4-bit features in "
        "half the memory; rgba8: packed, small words widened to R8G8B8A8; not given: that of an export in --load_dir, "
        "else packed. Grids of blocks are the same in each", choices=("", *LAYOUTS),
        section="feature textures",
    )  # fmt: skip
    latents_format: str = knob(
        "dds", "dds, of --latents astc6x6 KTX2: as a run has them; ktx2: KTX2 files of the same textures beside the "
        "DDS ones; ktx: beside those of ASTC 6x6 the same in KTX 1, for Unity; rgba8: beside those of blocks the same "
        "texels in R8G8B8A8, for importers that refuse blocks and encode themselves; astc: beside those of BC1 the "
        "same blocks as ASTC 4x4 in KTX2, for phones", choices=LATENTS_FORMATS,
    )  # fmt: skip

    transcode_scalars: str = knob("bc4", "a BC4 texture for each scalar map, or occlusion, roughness and metallic in "
                                  "one BC7 or BC1", choices=SCALAR_TEXTURES, section="ordinary textures")  # fmt: skip
    transcode_quality: str = knob("normal", "effort of the CPU's BC7 encoder", choices=BC7_EFFORTS)
    transcode_device: str = knob("cpu", "gpu: decode and encode with the shaders of --on_load, through the package "
                                 "wgpu", choices=TRANSCODE_DEVICES)  # fmt: skip

    weights: str = knob("baked", "part of the shader, or in decoder_weights.bin", choices=SHADER_WEIGHTS,
                        section="shaders")  # fmt: skip
    weight_type: str = knob("auto", "how the shader stores weights. auto: float32 as part of it, as wide as the run "
                            "has them in decoder_weights.bin; int8: of a run with --weight_bits 8",
                            choices=SHADER_WEIGHT_TYPES)  # fmt: skip
    shader_precision: int = knob(32, "of the network's products in the shader; 16: half the bytes of weights, within "
                                 "2/255 of 32; 8: of a run with --activation_bits 8, four products an instruction, the "
                                 "same texel on every GPU", unit="bits",
                                 choices=SHADER_PRECISIONS)  # fmt: skip
    on_load: bool = knob(False, "beside each decoder a compute shader that decodes a rectangle of a LOD into RGBA8, "
                         "on_load.*, and one that makes BC7, BC5 and BC4 of it, blocks.*; of hlsl, glsl and wgsl")

    fallback: str = knob("jpeg", "what viewers without the extension show: images of a LOD in jpeg (png where there is "
                         "alpha) or png; none: factors with the means of the maps", choices=FALLBACKS,
                         section="models")  # fmt: skip
    fallback_lod: int = knob(1, "LOD of these images; 0: the full size", low=0)

    data_dir: str = knob("", "source maps or model to compare with, or to write; of a batch folder the folder of their "
                         "folders; not given: those of the run", unit="path", section="page")  # fmt: skip
    viewer_source: int | None = knob(None, "longest side of the source maps in the page, 0: none; not given: LOD 0, "
                                     "coarser where all materials of the page would take more than 16 MB",
                                     unit="texels", low=0)  # fmt: skip

    chosen: frozenset[str] = dataclasses.field(default=frozenset())  # names of the flags that were given

    @property
    def made_of_files(self) -> bool:
        """Whether a flag asks for something that is made of exported files and goes into out_dir."""
        layout = self.dds_layout and not (self.gltf and not self.out_dir)  # --gltf alone has use for it
        asked = self.images or self.shader or layout or self.latents_format != "dds"
        return bool(asked or "transcode" in self.chosen)


EXPORT_FIELDS = {field.name: field for field in dataclasses.fields(ExportOptions) if field.metadata}
EXPORT_REFINES = {  # flag -> the flag without which it says nothing, and why
    "assume": "--images beside it, for which files without a manifest are decoded",
    "transcode_scalars": "--transcode beside it, which says in what formats",
    "transcode_quality": "--transcode beside it, which says in what formats",
    "transcode_device": "--transcode beside it, which says in what formats",
    "on_load": "--shader beside it, which says for what languages",
    "weights": "--shader beside it, which says for what languages",
    "weight_type": "--shader beside it, which says for what languages",
    "shader_precision": "--shader beside it, which says for what languages",
    "data_dir": "--viewer or --gltf beside it, the page or model that it is for",
    "fallback": "--gltf beside it, the model that it is in",
    "fallback_lod": "--gltf beside it, the model that it is in",
    "viewer_source": "--viewer beside it, the page that it is for",
}


def build_export_parser() -> argparse.ArgumentParser:
    """A parser with one flag per field of ExportOptions; flags that are not given stay out of the namespace."""
    parser = OneLineParser(
        prog="export.py", usage="export.py [flags]",
        description="Export a checkpoint again, make images, textures, shaders or a page of it, or say what it holds.",
    )  # fmt: skip
    add_flags(parser, EXPORT_FIELDS)
    return parser


def parse_export_options(argv: Sequence[str] | None = None) -> ExportOptions:
    """The validated flags. Raises: UserError for a flag that lacks the one that it refines, or for no folder."""
    given = check_values(EXPORT_FIELDS, vars(build_export_parser().parse_args(argv)))
    options = ExportOptions(**given, chosen=frozenset(given))
    for name, needed in EXPORT_REFINES.items():
        flags = re.findall(r"--(\w+)", needed.partition(" beside")[0])
        if name in given and not any(map(given.get, flags)):
            raise UserError(f"--{name}: expected {needed}")
    if options.transcode_device == "gpu" and "transcode_quality" in given:
        raise UserError("--transcode_quality: expected --transcode_device cpu, whose encoder it is for, found gpu")
    if not (options.load_dir or options.describe or options.gltf):
        raise UserError("expected --load_dir or --describe (see --help)")
    if options.gltf and options.dds_layout == "bgra4":
        raise UserError("--dds_layout bgra4: expected packed, filterable or rgba8 with --gltf: few GPUs of browsers "
                        "have such texels")  # fmt: skip
    if options.gltf and not options.load_dir and (options.out_dir or options.viewer or options.tsnc):
        raise UserError("--gltf: expected --load_dir beside it, as other flags need one material, found none")
    if options.load_dir and options.describe:
        raise UserError("--describe: expected without --load_dir; it names the folder itself")
    return options


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a comma-separated list. Raises: UserError for an empty list or an unknown one."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in TEXTURE_FORMATS]
    if unknown or not words:
        found = brief(unknown[0]) if unknown else "none"
        expected = ",".join(TEXTURE_FORMATS)
        raise UserError(f"--transcode {one_line(text):.80}: expected some of {expected}, found {found}")
    return tuple(name for name in TEXTURE_FORMATS if name in words)


def parse_languages(text: str, on_load: bool = False) -> list[str]:
    """`hlsl,wgsl` of --shader -> ["hlsl", "wgsl"].

    on_load: of --on_load beside it.
    Raises: UserError for a name that is not a language, or one of a language that --on_load does not have.
    """
    languages = list(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    unknown = [name for name in languages if name not in (*SHADER_LANGUAGES, SLANG)]
    if unknown:
        expected = ", ".join((*SHADER_LANGUAGES, SLANG))
        raise UserError(f"--shader: expected some of {expected}, separated by commas, got {unknown[0]!r:.40}")
    without = [name for name in languages if name not in ON_LOAD_LANGUAGES]
    if on_load and without:
        expected = ", ".join(ON_LOAD_LANGUAGES)
        raise UserError(f"--on_load: expected --shader with some of {expected}, found {without[0]}; leave one out")
    return languages
