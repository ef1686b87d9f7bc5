"""``python -m sessiontrail``."""

from sessiontrail.cli import main

main()
