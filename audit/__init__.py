"""The audit: replay, Merkle log, proofs, export, erasure. Empty so far; the log it reads is there.

Belongs here: pure functions over recorded events. Does not: I/O. Imports domain only.
"""
