"""What is known about a scan's pixels, and about a lake's: statistics, sequences, doubts, totals."""
