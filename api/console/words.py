"""Plain words for the closed sets that events and alerts are made of."""

from collections.abc import Mapping
from types import MappingProxyType

from markupsafe import Markup

from domain.alert import AlertStatus
from domain.detection import Outcome, Response, Verdict
from domain.events.families import EndReason
from domain.events.users import Role

_LONG = 28
"""Letters in a row that a column may be asked to hold."""
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "status": {
            AlertStatus.OPEN: "Open",
            AlertStatus.ACKNOWLEDGED: "Being looked into",
            AlertStatus.RESOLVED: "Resolved",
            AlertStatus.RECORDED: "On record only",
        },
        "verdict": {
            Verdict.TRUE_POSITIVE: "Attack",
            Verdict.FALSE_POSITIVE: "False alarm",
            Verdict.BENIGN: "Happened, and was meant to",
        },
        "response": {
            Response.RECORD: "Put on record",
            Response.ALERT: "Tell an analyst",
            Response.STEP_UP: "Ask the user to prove themself again",
            Response.REVOKE_SESSION: "Revoke the session",
            Response.REVOKE_FAMILY: "Revoke the session family",
            Response.REVOKE_ALL: "Revoke every session of the user",
        },
        "outcome": {
            Outcome.DONE: "done",
            Outcome.NOTHING_LEFT: "there was nothing left to end",
            Outcome.HELD_BACK: "held back: the rule would have ended too many sessions at once",
        },
        "reason": {
            EndReason.LOGOUT: "signed out",
            EndReason.LOGOUT_OTHERS: "signed out from another device",
            EndReason.LOGOUT_ALL: "signed out everywhere",
            EndReason.SESSION_LIMIT: "too many sessions: the oldest ended",
            EndReason.PASSWORD_CHANGED: "the password was changed",
            EndReason.USER_DISABLED: "the account was disabled",
            EndReason.USER_ERASED: "the person was erased",
            EndReason.TOKEN_REUSE: "a replaced token was used again",
            EndReason.TOKEN_REVOKED: "its app gave the token back",
            EndReason.REPORTED: "its user said that it was not them",
            EndReason.STAFF: "ended by the security team",
            EndReason.RULE: "ended by a detection rule",
            "expired_idle": "not used for too long",
            "expired_absolute": "reached its longest lifetime",
        },
        "role": {Role.ANALYST: "analyst", Role.AUDITOR: "auditor", Role.ADMIN: "admin"},
        "event": {
            "SessionStarted": "Signed in",
            "RefreshTokenRotated": "Refreshed",
            "RefreshRetried": "Asked again for the same refresh",
            "RefreshTokenReused": "A replaced token was used again",
            "RefreshTokenUnrecognised": "A token that was never issued was refused",
            "EndedSessionRefreshRefused": "Tried to refresh after the end: refused",
            "SessionRenamed": "The device was named",
            "SessionEnded": "The session ended",
            "SessionExpired": "The session ran out",
            "FamilyRevoked": "The session family was revoked",
            "StepUpRequired": "Held until the user proves themself again",
            "StepUpCompleted": "The user proved themself again",
            "AlertRaised": "Raised",
            "AlertRepeated": "Seen again",
            "AlertAnswered": "Answered",
            "AlertAcknowledged": "Acknowledged",
            "AlertAssigned": "Assigned",
            "AlertCommented": "Comment",
            "AlertResolved": "Resolved",
            "AlertReopened": "Reopened",
            "UserRegistered": "A user was added",
            "PasswordChanged": "The password was changed",
            "RolesChanged": "Staff roles were changed",
            "UserDisabled": "The account was disabled",
            "UserEnabled": "The account was enabled again",
            "UserSessionsEnded": "Several sessions of a user ended",
            "UserErased": "A person was erased",
            "SignInFailuresCounted": "Failed sign-ins were counted",
            "SignInsImported": "Earlier sign-ins were imported",
            "RuleConfigured": "A detection rule was set",
            "RuleHeldBack": "A detection rule was held back",
            "AllowListed": "Something was put on the allow-list",
            "AllowListEntryRemoved": "Something was taken off the allow-list",
            "SigningKeyCreated": "A signing key was made",
            "SigningKeyRetired": "A signing key was retired",
            "ServiceKeyAdded": "A backend was given a service key",
            "ServiceKeyRevoked": "A backend’s service key was revoked",
            "PersonalDataRevealed": "Personal data was opened",
            "LogExported": "The log was exported",
            "SnapshotTaken": "A snapshot was taken",
            "LogArchived": "Part of the log was archived",
            "LogRestored": "Part of the log was restored",
        },
    }
)
"""By the set's name, and the member as it is stored."""
NOTICES: Mapping[str, str] = MappingProxyType(
    {
        "signed-out": "You are signed out.",
        "not-sent": "Your session had ended: nothing was done. Sign in, and send it again.",
        "acknowledged-some": "Acknowledged what was still open. Somebody was faster with the rest.",
        "acknowledged": "Acknowledged: it is known that somebody looks into it.",
        "assigned": "Assigned.",
        "unassigned": "It is nobody's now.",
        "commented": "Your comment is on record.",
        "resolved": "Resolved.",
        "reopened": "Open again.",
        "nothing": "There was nothing left to do: somebody was faster.",
        "revoked": "Revoked. The next refresh with any of its tokens is refused.",
        "nothing-left": "There was nothing left to revoke: it had ended before.",
        "allowed": "On the allow-list until the day you chose.",
        "removed": "Off the allow-list.",
        "named": "The name is saved.",
        "ended": "Signed out. That device has to sign in again.",
        "ended-others": "Every other device is signed out.",
        "password": "The password is changed. Every other device is signed out.",
        "reported": "Thank you. That device is signed out, and the security team knows.",
        "configured": "Saved. The detector goes by it within seconds.",
        "not-selected": "No alert was selected.",
    }
)
"""What a page says after a form, by the code in its address: never a text from the address."""


def sentence(said: str) -> str:
    """What a fault says, as a sentence.

    >>> sentence("a comment is not empty")
    'A comment is not empty.'
    """
    return f"{said[:1].upper()}{said[1:]}."


def strange(text: str) -> Markup:
    """What a stranger chose, kept in its place: it turns nothing beside it, and breaks where long.

    >>> str(strange("<b>"))
    '<bdi>&lt;b&gt;</bdi>'
    """
    longest = max(map(len, text.split()), default=0)
    if longest > _LONG:
        return Markup('<bdi class="long">{}</bdi>').format(text)
    return Markup("<bdi>{}</bdi>").format(text)


def in_words(value: str, kind: str) -> str:
    """What people call a member of a closed set.

    Args:
        value: The member, as stored.
        kind: The set, such as ``status``.

    >>> in_words("true_positive", "verdict"), in_words("NotYetKnown", "event")
    ('Attack', 'NotYetKnown')
    """
    known = WORDS[kind].get(value)
    return known if known is not None else value.replace("_", " ")
