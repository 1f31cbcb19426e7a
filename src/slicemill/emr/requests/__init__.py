"""Requests to EMR and Step Functions as values."""
