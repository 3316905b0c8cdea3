"""The model: a neural texture, spherical harmonics of the view, a U-Net, and all of them together (renderer.py)."""
