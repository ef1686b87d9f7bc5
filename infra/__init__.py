"""Everything that touches the outside: PostgreSQL, keys, sealing, settings, telemetry.

Belongs here: implementations of the ports that the inner folders declare. Does not: rules, HTTP.
Imports domain and projections; only ``sessiontrail`` imports it.
"""
