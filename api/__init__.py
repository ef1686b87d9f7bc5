"""HTTP: routes, schemas, problems, request security.

Belongs here: everything that knows about requests and answers. Does not: SQL, keys, files (ports in
``api.ports``). Imports domain, projections, detector, audit; only ``sessiontrail`` imports it.
"""
