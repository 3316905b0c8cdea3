"""The sample materials, and the script that makes them."""
