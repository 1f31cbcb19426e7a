"""What computes a network, behind one interface: torch, and ONNX Runtime where it is faster."""
