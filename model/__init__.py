"""Tensors only: the ethogram, the network, its losses, its scores and its checkpoints."""
