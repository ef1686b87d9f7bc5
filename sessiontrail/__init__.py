"""The front door: the command line, and the one place that wires infra into the rest.

Belongs here: composition, commands, the server. Does not: rules, SQL, routes. Nobody imports it.
"""
