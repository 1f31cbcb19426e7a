"""Batches of slices from the lake, augmented."""
