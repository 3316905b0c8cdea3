"""Grids of blocks on a GPU: what an end point and a weight stand for, their gradients, and the ties of borders."""
