"""Figures from finished tables."""
