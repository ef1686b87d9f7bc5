"""Measurements: ``make bench`` prints a table and writes ``bench/out/latest.json``.

Each figure stands beside its raw ceiling, measured in the same run on the same machine: quote
ratios, not absolute times. Nothing here is a test; tests assert no times.
"""
