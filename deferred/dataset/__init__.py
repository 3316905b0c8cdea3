"""The data of a scene: files (frames.py), and the crops that a training step is made of (crops.py)."""
