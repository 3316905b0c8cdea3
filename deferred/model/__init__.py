"""The networks: a neural texture (texture.py), a view's harmonics (harmonics.py), a U-Net (unet.py), and all of them
together (renderer.py)."""
