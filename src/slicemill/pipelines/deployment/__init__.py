"""A trained model in use: predict one scan, choose the model in use, serve it."""
