"""Decoded files: their forms, the layout of a TIFF, and the rules for images and masks."""
