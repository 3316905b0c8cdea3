"""What is on disk: DDS textures, network_data.npz, manifest.json, reading them back, and the flags of export.py."""
