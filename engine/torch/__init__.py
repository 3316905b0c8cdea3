"""PyTorch, the reference: every op of a training step and of the code search as plain tensors, on any device."""
