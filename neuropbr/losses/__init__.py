"""Losses of NeuroPBR: against the ground truth, of the discriminator, and against a teacher."""

if __name__ == "losses":
    from bare_names import alias

    alias(__name__)
