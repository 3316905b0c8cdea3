"""Every test of a build gets small sources, compilers that keep a log, and a cache of its own."""

from tests.support.kernel_builds import (  # noqa: F401  # fixtures
    _nothing_from_outside,
    cache,
    compiler,
    counting,
    script,
    sources,
    zig_compiler,
)
