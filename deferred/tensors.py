"""Names for the shapes of tensors."""

from torchtyping import TensorType

Images = TensorType["batch", "channels", "height", "width"]
Uv = TensorType["batch", "height", "width", 2]
Directions = TensorType["batch", "height", "width", 3]  # height and width are 1 for one direction per view
Masks = TensorType["batch", "height", "width"]
Colours = TensorType["height", "width", 3]
