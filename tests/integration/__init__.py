"""Tests against a real PostgreSQL, real files, real processes."""
