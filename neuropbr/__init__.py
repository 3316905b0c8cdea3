"""NeuroPBR: the maps of a material from three pictures of it, and students of that network for phones."""
