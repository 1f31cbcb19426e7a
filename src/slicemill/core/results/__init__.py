"""What results together say: of runs side by side, of all folds, of shape and clinical groups."""
