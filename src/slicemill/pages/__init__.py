"""Figures and HTML from finished tables."""
