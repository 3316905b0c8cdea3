"""A glTF 2.0 model as a source of maps: the container, its materials, and what their factors do to the images."""
