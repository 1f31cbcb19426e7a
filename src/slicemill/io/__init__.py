"""Bytes and URIs: storage, TIFF, Parquet, CSV. The only room that imports boto3 and pillow."""
