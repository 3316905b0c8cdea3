"""What exported files are, read with plain numpy, also those without a manifest."""
