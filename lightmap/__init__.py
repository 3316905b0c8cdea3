"""Lightmaps over a day: one latent map and a small network instead of 24 images (docs/lightmap.md)."""
