"""torch.load of files that may come from strangers: runs no code, unpacks no more than the file holds."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError, brief
from common.files import open_regular

MAX_PICKLE_BYTES = 16 << 20  # of a checkpoint's own, without the tensors: some 10 KB, metrics of many LODs included
# What the pickle of tensors and plain values refers to. torch.load(weights_only=True) lets through others that make
# objects of any size, such as bytearray.
PICKLED = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")


def read_payload(path: Path) -> Any:
    """torch.load that runs no code and unpacks no more bytes than the file has. Raises: UserError."""
    damaged = f"{path}: damaged, or not a checkpoint of this tool"
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            # torch looks for the list of entries where the end of the file says that it is, Python next to that end
            if archive.comment or min((entry.header_offset for entry in entries), default=0):
                raise UserError(f"{damaged}: there is something in front of its first part or behind its last")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UserError(f"{damaged}: it has compressed parts, which torch.save never writes")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise UserError(f"{damaged}: its parts overlap")
            broken = archive.testzip()  # torch does not check the sums itself
            if broken is not None:
                raise UserError(f"{damaged}: wrong checksum of {brief(broken)}; use another checkpoint")
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    _check_pickle(archive, entry)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except zipfile.BadZipFile as error:
        raise UserError(f"{damaged}: {error!s:.120}; use another checkpoint") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{damaged}: it holds objects other than tensors and plain values; refused") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle can raise anything; nothing of ours runs inside torch.load
        raise UserError(f"{damaged}: {error!s:.120}; use another checkpoint") from error


def _check_pickle(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise pickle.UnpicklingError for a pickle that is too large, or refers to more than tensors are made of."""
    if entry.file_size > MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError("too large")
    for opcode, argument, _ in pickletools.genops(archive.read(entry)):
        foreign = opcode.name == "GLOBAL" and not PICKLED.fullmatch(argument)
        newer = opcode.name == "PROTO" and argument != 2  # torch says on stderr that it may not understand them
        if foreign or newer or opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise pickle.UnpicklingError(f"{argument}")
