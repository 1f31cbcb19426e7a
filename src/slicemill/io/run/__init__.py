"""A training run's files."""
