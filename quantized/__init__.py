"""The decoder network in whole numbers of 8 bits, as shaders run it with dot products of bytes."""
