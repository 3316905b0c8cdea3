"""Data, training loop, metrics, logs and checkpoints of NeuroPBR."""

import core_path  # noqa: F401
