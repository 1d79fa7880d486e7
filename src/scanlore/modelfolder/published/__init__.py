"""Weights that others have published, under their own names of tensors."""
