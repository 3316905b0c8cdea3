"""Data, training loop, metrics, logs and checkpoints of NeuroPBR."""

if __name__ == "utils":
    from bare_names import alias

    alias(__name__)
