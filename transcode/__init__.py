"""Ordinary textures of a decoded material: BCn and ASTC codecs, DDS, KTX2, PNG and glTF binary files."""
