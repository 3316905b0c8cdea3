"""Lightmaps over a day: one latent map and a small network instead of 24 images (docs/lightmap.md).

Modules of this folder are imported as `lightmap.<name>`, those of the repository's root by their bare name. Commands
run as `python -m lightmap.train` from the root, and as `python train.py` from inside the folder: see rooted.py.
"""
