"""Raw folders: TIFF files, scans read from them, clinical tables."""
