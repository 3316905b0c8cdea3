"""One run: loop, checkpoints, early stop, log, search after training, and the choice of a rate."""
