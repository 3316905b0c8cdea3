"""Losses of NeuroPBR: against the ground truth, of the discriminator, and against a teacher."""

import core_path  # noqa: F401
