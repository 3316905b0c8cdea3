"""Deferred neural rendering: a neural texture and a U-Net that turn uv maps into images (docs/deferred.md).

Modules of this folder are imported as `deferred.<name>`, those of the repository's root by their bare name. Commands
run as `python -m deferred.train` from the root, and as `python train.py` from inside the folder: see rooted.py.
"""
