"""The detector, without I/O: what is counted, scored, judged and learned."""
