"""Read models as folds of events: how states lie in tables, rebuild and compare.

Belongs here: row mappings, verification, rebuild. Does not: what an event means (``domain``), SQL
connections (``infra``). Imports domain only.
"""
