"""The detector: profiles, rules, responses. Empty so far; reuse is revoked in the refresh itself.

Belongs here: pure functions from events to findings. Does not: I/O. Imports domain only.
"""
