"""The neuropbr folder on the import path, before its tests are imported."""

from tests.support import neuropbr_tools  # noqa: F401
