"""What the facts behind an alert are called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from domain.alert import Alert

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "activity": "How often this user signs in",
        "address": "How unusual the address is for this user",
        "anonymous_network": "A network that hides who comes from it",
        "around_the_clock": "Refreshes day and night, without a rest",
        "began_elsewhere": "The session began somewhere else",
        "browser_downgrade": "An older browser than before",
        "client_contradiction": "What the client says of itself does not fit together",
        "client_hints_lost": "The browser no longer tells what it always told",
        "clockwork": "Refreshes by the clock, as no person has them",
        "contradicting_hints": "What the client says of itself does not fit together",
        "device_cookie_kept": "The same device cookie came along",
        "device_cookie_lost": "The device cookie is missing",
        "device_cookie_of_the_user": "A device cookie that this user has had",
        "device_cookie_strange": "Another device's cookie",
        "dormant": "The account had not been used for long",
        "early_refresh": "A refresh sooner than this client ever needed one",
        "failures_from_there": "Failed sign-ins from there, just before",
        "failures_on_account": "Failed sign-ins on this account, just before",
        "familiar_place": "A place where this user often is",
        "hosting_network": "A machine for rent",
        "hurried_travel": "A fast journey",
        "impossible_travel": "Faster than anybody can travel",
        "known_device_cookie": "A device cookie that this user has had",
        "left_the_tunnel": "Came from outside the network that this user always comes through",
        "missing_device_cookie": "No device cookie, where this user has had one",
        "new_asn": "A network provider that this user never came through",
        "new_country": "A country that this user never came from",
        "new_device": "A device that this user never had",
        "new_network": "A network that this user never came through",
        "no_browser": "Not a browser",
        "late_retries": "The same token was asked for again too late, too often",
        "network": "Another network at every turn",
        "other_browser": "Another browser",
        "other_engine": "Another browser engine",
        "other_form": "Another form of device",
        "other_platform": "Another operating system",
        "replaced_token": "A token that had been replaced",
        "reported_by_user": "The user says that it was not them",
        "sources": "From many networks at once",
        "token_never_issued": "A token that was never issued",
        "two_places_at_once": "The session is in two places at once",
        "accounts": "Accounts that were tried",
        "failures": "Failed sign-ins",
        "every_generation": "A late retry at one generation after another",
        "first_days": "One of this user's first days",
        "tries": "Tries",
        "other_asn": "Another network provider",
        "other_device": "Another kind of device",
        "other_device_cookie": "Another device's cookie",
        "other_model": "Another model of the device",
        "other_network": "Another network",
        "quick_change_of_country": "Another country within moments",
        "racing_refreshes": "Two clients race for the same token",
        "retried_elsewhere": "The same token was asked for again from elsewhere",
        "same_asn": "The same network provider as before",
        "same_network": "The same network as before",
        "time_and_again": "Refreshes far more often than it has to",
        "too_fast": "Faster than anybody can travel",
        "user_agent": "How unusual the client is for this user",
        "user_agent_lost": "The client no longer says what it is",
        "users_there": "Others who signed in from there lately",
        "victims": "Users who were attacked from there",
    }
)
_NUMBER = re.compile(r"\bas\d+\b")
_ONE_GENERATION = re.compile(r"\b1 generations\b")
_SIGNATURE_PARTS = 4
"""Platform, form, browser, engine: ``domain.evidence.Device.signature``."""
_FULL = 100
"""Points that make certainty: the whole bar."""


@dataclass(frozen=True, slots=True)
class FactLine:
    """One thing that spoke for an alert, or against it.

    Attributes:
        what: In words.
        seen: What was seen.
        usual: What was to be expected; None where the rule does not say.
        weight: Points.
        share: Of the whole bar, from 0 to 100.
    """

    what: str
    seen: str
    usual: str | None
    weight: int

    @property
    def share(self) -> int:
        """See the attributes."""
        return min(abs(self.weight), _FULL)


def fact_lines(alert: Alert) -> list[FactLine]:
    """The facts behind an alert, the heaviest first."""
    texts = alert.fact_texts if isinstance(alert.fact_texts, dict) else {}
    lines = []
    for fact in alert.facts:
        seen, _, usual = texts.get(fact.code, "").removesuffix(")").partition(" (usual: ")
        words = WORDS.get(fact.code, fact.code.replace("_", " "))
        lines.append(FactLine(words, _readable(seen), _readable(usual) or None, fact.weight))
    return sorted(lines, key=lambda line: -line.weight)


def _readable(text: str) -> str:
    """What a rule wrote, with what is not known left out, and numbers as people write them.

    >>> _readable("?/other/curl/?"), _readable("as64500 Fjord Broadband NO/Oslo")
    ('curl', 'AS64500 Fjord Broadband NO/Oslo')
    >>> _readable("1 generations old"), _readable("JP/Tokyo, 8366 km in 0.0 h")
    ('1 generation old', 'JP/Tokyo, 8366 km in moments')
    """
    signature = text.split("/")
    if len(signature) == _SIGNATURE_PARTS and " " not in text:
        return " ".join(part for part in signature if part not in {"?", "other"})
    text = _ONE_GENERATION.sub("1 generation", text).replace(" in 0.0 h", " in moments")
    return _NUMBER.sub(lambda found: found[0].upper(), text)
