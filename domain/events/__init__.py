"""What can happen, as frozen values with a stable type name and a schema version.

Belongs here: event types, their envelope, the registry that reads and writes them, upcasters.
Does not: what an event does to a state (that is ``evolve``), storage. Imports domain only.
"""
