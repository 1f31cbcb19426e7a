"""What masks have to do with the clinical table: features, tests, survival, predicted columns."""
