"""A material, or a batch of them, in one HTML page that decodes it live."""
