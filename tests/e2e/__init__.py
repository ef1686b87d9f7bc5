"""Tests over HTTP, against whole processes."""
