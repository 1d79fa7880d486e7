"""Backbones: networks without a head, under the two contracts of `features` and of the methods."""
