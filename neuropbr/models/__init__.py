"""Networks of NeuroPBR: encoders, cross-view fusion, decoder, discriminators, and the generators made of them."""

import core_path  # noqa: F401
