"""A labelled world: request files with ground truth, and how the detector does on them.

Belongs here: invented people with their traps, attackers, the file that both leave, the scorer.
Does not: what the detector needs to work. Imports domain only; `sessiontrail world` uses it.
"""
