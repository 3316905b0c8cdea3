"""Photographs of an object, with their cameras (colmap.py, transforms.py) and its mesh, as data for training."""
