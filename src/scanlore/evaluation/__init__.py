"""Metrics, their uncertainty, and the tables that hold every result."""
