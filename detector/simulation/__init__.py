"""The player: a file of requests through the rules that serve live traffic, under a virtual clock.

Belongs here: reading request files, playing them, the policy file, the summary. Does not: rules,
file handles, terminals. ``sessiontrail simulate`` and the scorer of the labelled world use it.
"""
