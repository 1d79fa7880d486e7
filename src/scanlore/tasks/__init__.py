"""Labelled data: what a model is adapted to and tested on."""
