"""Autograd: networks, losses, augmentation, loader, loop, checkpoint, predictor. The only room with torch."""
