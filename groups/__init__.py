"""Batches of materials: finding them, training them in processes of this machine or on Ray, recording the results."""
