"""Scans before any network: names, discovery, integrity, channels, profile, normalisation, phantoms."""
