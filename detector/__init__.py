"""The detector: profiles, rules, responses, and the player that plays them; pure functions.

Belongs here: what turns events into findings and alerts. Does not: I/O. Imports domain only;
declares in ``ports`` what the worker needs from outside.
"""
