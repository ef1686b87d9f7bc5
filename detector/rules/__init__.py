"""Detection rules, one file each: a description, thresholds and one pure function, as ``RULE``.

Belongs here: nothing else. ``detector.rulebook`` finds them by themselves; nobody imports them.
"""
