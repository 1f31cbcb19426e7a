"""From a scan to a mask; knows nothing of training."""
