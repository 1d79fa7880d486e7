"""Protocols: how labels are used on top of a model."""
