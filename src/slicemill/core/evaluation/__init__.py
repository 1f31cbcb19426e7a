"""What a prediction is worth: Dice, surfaces, intervals, ROC."""
