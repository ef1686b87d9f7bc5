"""The audit, without I/O: tree, notes, tiles, and what is built upon them."""
