"""The data of a scene: its files (frames.py), and the batches of crops for a training step (crops.py)."""
