"""Measurements: make bench."""
