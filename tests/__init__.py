"""Tests, by what they touch."""
