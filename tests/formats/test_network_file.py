"""network_data.npz: hostile archives, arrays and numbers are one line and cost nothing."""

from __future__ import annotations

import os
import struct
import zipfile

import numpy as np
import pytest

from common.errors import UserError
from formats.manifest import NETWORK
from formats.network_file import MAX_NETWORK_BYTES, network_info, parse_info, read_network
from formats.textures import read_export, read_textures
from tests.support import reference
from tests.support.exports import (
    GOOD,
    GOOD_INFO,
    GOOD_NETWORK,
    describe,
    limited_memory,
    npy,
    npz,
    only_network,
    reseal,
)


def with_central_field(payload: bytes, offset: int, value: bytes, member=1) -> bytes:
    """Overwrite a field of a member's central directory entry (PKWARE APPNOTE 4.3.12)."""
    at = -1
    for _ in range(member + 1):
        at = payload.index(b"PK\x01\x02", at + 1)
    return payload[: at + offset] + value + payload[at + offset + len(value) :]


HEADERS = {
    "unbalanced": "{'descr': '<f4', 'fortran_order': False, 'shape': (256,",
    "open string": "{'descr': '<f4",
    "empty": "",
    "not a dict": "[1, 2, 3]",
    "a call": "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').getpid()}",
    "extra key": "{'descr': '<f4', 'fortran_order': False, 'shape': (256,), 'x': 1}",
    "missing key": "{'descr': '<f4', 'shape': (256,)}",
    "dtype of nothing": describe("<q9", "(256,)"),
    "dtype a number": describe(5, "(256,)"),
    "dtype without size": describe("|V0", "(1000000000000,)"),
    "dtype with shape": describe([("a", "<f4", (1 << 40,))], "(1,)"),
    "objects": describe("|O", "(256,)"),
    "nested objects": describe([("a", "|O")], "(128,)"),
    "10**12 elements": describe("<f4", "(1000000000000,)"),
    "10**30 elements": describe("<f4", f"({10**30},)"),
    "10**30 times nothing": describe("<f4", f"(0, {10**30})"),
    "negative": describe("<f4", "(-256,)"),
    "negative twice": describe("<f4", "(-16, -16)"),
    "shape of floats": describe("<f4", "(256.0,)"),
    "shape of booleans": describe("<f4", "(True,)"),
    "many dimensions": describe("<f4", "(" + "1, " * 200 + "256)"),
    "one more": describe("<f4", "(257,)"),
    "one fewer": describe("<f4", "(255,)"),
    "minus signs": "-" * 5000 + "1",
    "brackets": "[" * 5000,
    "null bytes": "\0" * 64,
    "latin": "\xff" * 64,
    "long": describe("<f4", "(256,)") + " " * 60_000,
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_hostile_array_headers_are_refused(header, tmp_path, refused):
    path = tmp_path / NETWORK
    data = b"" if "nothing" in header or "without" in header else bytes(1024)
    path.write_bytes(only_network(npy(header=HEADERS[header], data=data)))
    with refused(NETWORK), limited_memory():
        read_network(path)


ARRAYS = {
    "float64": np.zeros(256), "float16": np.zeros(256, np.float16), "big-endian": np.zeros(256, ">f4"),
    "2-D": np.zeros((16, 16), np.float32), "0-D": np.float32(1), "integers": np.zeros(256, np.int32),
    "NaN": np.full(256, np.nan, np.float32), "infinite": np.full(256, -np.inf, np.float32),
    "text": np.array(["x"] * 256), "objects": np.array([None, {}], object), "complex": np.zeros(128, np.complex64),
    "record": np.zeros(256, [("a", "<f4")]), "time": np.zeros(256, "datetime64[s]"),
}  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS)
def test_other_arrays_are_refused(array, tmp_path, refused):
    path = tmp_path / NETWORK
    path.write_bytes(only_network(npy(ARRAYS[array])))
    with refused(NETWORK):
        read_network(path)
    path.write_bytes(npz({"info.npy": npy(ARRAYS[array]), "network.npy": GOOD_NETWORK}))
    if array != "integers":
        with refused(NETWORK):
            read_network(path)


def test_pickles_are_not_opened(tmp_path, refused):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / NETWORK
    path.write_bytes(only_network(npy(np.array([Trap()], object))))
    with refused(NETWORK):
        read_network(path)
    assert not (tmp_path / "trapped").exists()


MEMBERS = {
    "none": {},
    "info alone": {"info.npy": GOOD_INFO},
    "network alone": {"network.npy": GOOD_NETWORK},
    "one more": {"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK, "extra.npy": GOOD_INFO},
    "info twice": [("info.npy", GOOD_INFO), ("info.npy", GOOD_INFO), ("network.npy", GOOD_NETWORK)],
    "other case": {"Info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "no suffix": {"info": GOOD_INFO, "network": GOOD_NETWORK},
    "a path": {"../info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "lines": {"info.npy\n": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "many": {f"{i}.npy": b"" for i in range(2000)},
    "long": {"n" * 60_000: GOOD_INFO, "network.npy": GOOD_NETWORK},
    "not npy": {"info.npy": b"hello", "network.npy": GOOD_NETWORK},
    "empty": {"info.npy": b"", "network.npy": GOOD_NETWORK},
    "version 9": {"info.npy": GOOD_INFO[:6] + b"\x09\0" + GOOD_INFO[8:], "network.npy": GOOD_NETWORK},
    "version 0": {"info.npy": GOOD_INFO[:6] + b"\0\0" + GOOD_INFO[8:], "network.npy": GOOD_NETWORK},
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("members", MEMBERS)
def test_other_members_are_refused(members, tmp_path, refused):
    path = tmp_path / NETWORK
    path.write_bytes(npz(MEMBERS[members]))
    with refused(NETWORK) as caught:
        read_network(path)
    assert len(str(caught.value)) < len(str(path)) + 1000, "the message is as long as the attacker likes"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archives_are_read_or_refused(compression, tmp_path):
    path = tmp_path / NETWORK
    path.write_bytes(npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, compression))
    try:
        info, network, *_ = read_network(path)
    except UserError:
        assert compression != zipfile.ZIP_STORED
    else:
        assert len(info) == 10 and len(network) == 256


@pytest.mark.parametrize("method", [8, 9, 12, 14, 93, 99, 65535])
def test_data_of_another_compression_method_is_refused(method, tmp_path, refused):
    """Stored bytes that the archive calls deflated, bzip2, LZMA, ...: the decompressors raise errors of their own."""
    path = tmp_path / NETWORK
    payload = only_network(GOOD_NETWORK)
    payload = with_central_field(payload, 10, struct.pack("<H", method))
    local = payload.index(b"PK\x03\x04", 1)
    path.write_bytes(payload[: local + 8] + struct.pack("<H", method) + payload[local + 10 :])
    with refused(NETWORK), limited_memory():
        read_network(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_data_is_refused(compression, tmp_path, refused):
    path = tmp_path / NETWORK
    payload = npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, compression)
    data = payload.index(b"network.npy") + len(b"network.npy")
    for junk in (b"\xff" * 8, b"\x00" * 8, b"\x07" + b"\x80" * 7):
        path.write_bytes(payload[:data] + junk + payload[data + 8 :])
        with refused(NETWORK), limited_memory():
            read_network(path)


def test_encrypted_members_are_refused(tmp_path, refused):
    path = tmp_path / NETWORK
    payload = with_central_field(only_network(GOOD_NETWORK), 8, b"\x01\0")
    local = payload.index(b"PK\x03\x04", 1)
    path.write_bytes(payload[: local + 6] + b"\x01\0" + payload[local + 8 :])
    with refused(NETWORK):
        read_network(path)


def test_a_member_that_claims_to_be_large_is_not_unpacked(tmp_path, refused):
    path = tmp_path / NETWORK
    for claim in (MAX_NETWORK_BYTES + 1, 2**32 - 2):
        path.write_bytes(with_central_field(only_network(GOOD_NETWORK), 24, struct.pack("<I", claim)))
        with refused(NETWORK), limited_memory(100 << 20):
            read_network(path)


def test_a_zip_bomb_is_refused(tmp_path, refused):
    """200 MB of zeros in 200 kB, once as what it is, once claiming to be 1 kB."""
    bomb = npy(header=describe("<f4", "(50000000,)"), data=bytes(200_000_000))
    payload = npz({"info.npy": GOOD_INFO, "network.npy": bomb}, zipfile.ZIP_DEFLATED, 1)
    del bomb
    assert len(payload) < 2_000_000
    path = tmp_path / NETWORK
    path.write_bytes(payload)
    with refused(NETWORK), limited_memory(100 << 20):
        read_network(path)
    path.write_bytes(with_central_field(payload, 24, struct.pack("<I", 1024)))
    with refused(NETWORK), limited_memory(300 << 20):
        read_network(path)


# --- info ------------------------------------------------------------------------------------------------------------

INFOS = {
    "empty": [], "one": [1], "no grids": [0, 3, 16, 1, 16], "minus one grid": [-1, *GOOD[1:]], "too short": GOOD[:-1],
    "too long": [*GOOD, 16], "2**31 grids": [2**31 - 1, *GOOD[1:]], "17 grids": [17, *GOOD[1:6] * 17, *GOOD[-4:]],
    "no texels": [2, 0, *GOOD[2:]], "negative size": [2, -3, *GOOD[2:]], "huge size": [2, 2**30, *GOOD[2:]],
    "large size": [2, 2**17, *GOOD[2:]], "no levels": [2, 3, 0, *GOOD[3:]], "minus one level": [2, 3, -1, *GOOD[3:]],
    "least levels": [2, 3, -(2**31), *GOOD[3:]], "many levels": [2, 3, 10_000, *GOOD[3:]],
    "31 levels": [2, 1, 31, *GOOD[3:]],
    "no features": [2, 3, 2, 0, 8, 0, *GOOD[6:]], "negative bits": [2, 3, 2, -8, -8, 64, *GOOD[6:]],
    "3 bits": [2, 3, 2, 8, 3, 24, *GOOD[6:]], "32 bits": [2, 3, 2, 2, 32, 64, *GOOD[6:]],
    "128-bit words": [2, 3, 2, 16, 8, 128, *GOOD[6:]], "features that do not fill": [2, 3, 2, 7, 8, 64, *GOOD[6:]],
    "negative waves": [*GOOD[:-4], -3, 16, 1, 16], "many waves": [*GOOD[:-4], 2**30, 16, 1, 16],
    "no neurons": [*GOOD[:-4], 3, 0, 1, 16], "many neurons": [*GOOD[:-4], 3, 2**31 - 1, 1, 16],
    "negative layers": [*GOOD[:-4], 3, 16, -1, 16], "many layers": [*GOOD[:-4], 3, 16, 2**31 - 1, 16],
    "11 outputs": [*GOOD[:-4], 3, 16, 1, 11], "many outputs": [*GOOD[:-4], 3, 16, 1, 2**31 - 16],
}  # fmt: skip


@pytest.mark.parametrize("info", INFOS)
def test_impossible_infos_are_refused(info, shipped, folder, refused):
    """By the whole reader, and by the one that a checkpoint uses, which has no hashes to rely on."""
    network = reference.parse_npz((folder / NETWORK).read_bytes())["network"]
    (folder / NETWORK).write_bytes(npz({"info.npy": npy(np.array(INFOS[info], np.int32)), "network.npy": npy(network)}))
    reseal(folder)
    with refused(), limited_memory():
        read_export(folder)
    with refused(), limited_memory():
        read_textures(folder, shipped[1].form)


def test_a_good_info_is_parsed(shipped):
    grids, *decoder = parse_info(np.array(GOOD, np.int32), "info")
    assert network_info(shipped[1].form).numbers == GOOD
    assert list(grids[1]) == [3, 1, 4, 4, 16] and decoder == [3, 16, 1, 16]
