"""slicemill: raw MRI slices in S3 to tumour masks and per-patient Dice, on Spark."""

__version__ = "0.1.0"
