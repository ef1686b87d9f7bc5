"""The rules: events, families, users, token format, policy. Pure: no I/O, no clock, no randomness.

Belongs here: what an event means, what a command may do, the wire formats both rest on, the ports.
Does not: SQL, HTTP, files, threads. Everyone may import it; it imports nothing of ours.
"""
