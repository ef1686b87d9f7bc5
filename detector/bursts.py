"""When failed sign-ins are an attack: what several rules ask of the crowd's counts."""

from collections.abc import Mapping

from detector.crowd_states import SourceState, SprayState

STUFFING: Mapping[str, int] = {"min_tries": 25, "min_accounts": 15, "max_each": 5}
"""Elastic's figures, but for the tries each: two there, which a second list exceeds."""
SPRAYING: Mapping[str, int] = {"min_tries": 25, "min_accounts": 8, "min_sources": 5, "max_each": 5}


def is_stuffing(source: SourceState, now: float, parameters: Mapping[str, int]) -> bool:
    """Whether one source tries many accounts, a few times each."""
    return (
        source.tries.total(now) >= parameters["min_tries"]
        and source.tries.accounts(now, parameters["max_each"]) >= parameters["min_accounts"]
    )


def is_spraying(
    spray: SprayState, sign_ins: int, now: float, parameters: Mapping[str, int]
) -> bool:
    """Whether many sources try many accounts, a few times each, and not as people mistype.

    Args:
        spray: Failures from everywhere.
        sign_ins: Sign-ins in the hour that they are counted over.
        now: When, in seconds since 1970.
        parameters: The thresholds.
    """
    tries, least = spray.accounts.total(now), parameters["min_tries"]
    return (
        tries >= least
        and tries - spray.explained(sign_ins) >= least // 2
        and spray.accounts.accounts(now, parameters["max_each"]) >= parameters["min_accounts"]
        and spray.sources.accounts(now, parameters["max_each"] * 1000) >= parameters["min_sources"]
    )
