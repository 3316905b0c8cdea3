"""A device of wgpu, which runs the decoders in WGSL: a GPU, or a CPU where there is none."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from typing import Any

from common.errors import one_line

BC_FEATURE, HALF_FEATURE, FLOAT_FILTER = "texture-compression-bc", "shader-f16", "float32-filterable"


class NoDevice(Exception):
    """There is nothing that runs the shaders, or these textures; the message says what is missing."""


@functools.lru_cache
def open_device() -> tuple[Any, str, bool]:
    """(wgpu device with those of the features above that it has, its name, whether it is a CPU). Raises: NoDevice."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # without one, drivers print errors of their own
    os.environ.setdefault("GALLIVM_PERF", "no_aos_sampling")  # Mesa's CPU device filters with 8 bits without it
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401  # of PyTorch: its LLVM crashes when it is loaded after the one of Mesa's CPU device
    try:
        import wgpu

        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        wanted = {BC_FEATURE, HALF_FEATURE, FLOAT_FILTER}
        device = adapter.request_device_sync(required_features=wanted & set(adapter.features))
    except Exception as error:  # a missing package, library, driver: whatever a binding can run into
        reason = one_line(str(error))[:120]
        ways = "pip install wgpu, and on Linux without a GPU apt install mesa-vulkan-drivers"
        raise NoDevice(f"expected a device of wgpu, found none ({reason}); {ways}") from error
    return device, str(adapter.info["device"]), adapter.info["adapter_type"] == "CPU"
