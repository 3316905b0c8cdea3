"""The student: a network for phones that learns from a teacher's shards."""

import core_path  # noqa: F401
