"""The audit: the transparency log and time travel; rebuilds are measured with ``history``."""

from bench.audit_replay import replay_figures
from bench.audit_tree import tree_figures
from bench.audit_verify import verify_figures
from bench.environment import Bench
from bench.figures import Figure
from bench.measures import Say


def audit_figures(on: Bench, say: Say) -> list[Figure]:
    """Each part on a log of its own, beside ``COPY`` of that log."""
    return [*tree_figures(on, say), *replay_figures(on, say), *verify_figures(on, "replay", say)]
