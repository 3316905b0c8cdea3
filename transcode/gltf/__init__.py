"""A glTF model with neural textures: the extension, the fallback, and the model's JSON edited in place."""
