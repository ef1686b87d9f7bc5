"""The commands, a module a noun. They wire nothing themselves: that is ``composition``."""
