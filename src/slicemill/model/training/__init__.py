"""One training run on its ranks."""
