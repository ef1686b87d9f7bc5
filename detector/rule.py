"""What a detection rule is: a description, thresholds, and one pure function. One file each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from detector.crowd import CrowdSighting
from detector.findings import Signal, Subject
from detector.observations import Kind
from detector.sighting import Sighting
from domain.detection import Response, Severity

Parameters = Mapping[str, int]
"""Thresholds by name: whole numbers, whose units their names tell (``min_km``, ``within_s``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a rule says of itself, in lists and generated documentation.

    Attributes:
        name: Stable, in lower case with hyphens; alerts and policies name it.
        version: Raised when the rule would judge the same events otherwise.
        title: A few words.
        looks_for: What it looks for.
        why: Why that matters.
        techniques: MITRE ATT&CK technique ids.
        false_positives: Who else looks like that.
        severity: Unless a signal or the policy says otherwise.
        response: Unless a signal or the policy says otherwise.
        subject: What its findings are about.
        parameters: Its thresholds, with their defaults.
    """

    name: str
    version: int = 1
    title: str
    looks_for: str
    why: str
    techniques: tuple[str, ...]
    false_positives: tuple[str, ...]
    severity: Severity
    response: Response
    subject: Subject
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRule:
    """A rule about one user, judged on what is known of them before the event.

    Attributes:
        about: Its description.
        kinds: The observations that it is asked about.
        look: Says something, or None. Must be pure, and take the same time whatever the history.
        quiet: Whether it also wants refreshes by the very client and from the very network that the
            family was last seen with: nearly all, and nothing changed in them.
    """

    about: Description
    kinds: frozenset[Kind]
    look: Callable[[Sighting, Parameters], Signal | None]
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdRule:
    """A rule about many users at once, judged on counts that the event is already part of.

    Attributes:
        about: Its description.
        kinds: The observations that it is asked about.
        look: Says something, or None. Must be pure.
    """

    about: Description
    kinds: frozenset[Kind]
    look: Callable[[CrowdSighting, Parameters], Signal | None]


Rule = UserRule | CrowdRule
