"""Rules of training that need arrays only: plan, schedule, choice of the epoch, pruning."""
