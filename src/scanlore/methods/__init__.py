"""Pretraining methods: one folder each, with settings, method and losses."""
