"""What is on disk: DDS textures, network_data.npz, manifest.json, and reading an export back into a model."""
