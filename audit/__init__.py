"""The audit: replay, the Merkle tree over the log, proofs, verification and exports.

Belongs here: pure functions, and loops over ports that infra implements. Does not: SQL, files,
HTTP. Imports domain only.
"""
