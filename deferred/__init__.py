"""Deferred neural rendering: a neural texture and a U-Net that turn uv maps into images (docs/deferred.md)."""
