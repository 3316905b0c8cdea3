"""One folder of image files: which file is which map, image readers and writers, colour spaces, mip chains."""
