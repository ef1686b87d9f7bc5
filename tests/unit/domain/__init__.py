"""The rules, without I/O: tokens, families, users, texts, events and their golden files."""
