"""Why a command was refused: a closed set with stable codes."""

from enum import StrEnum


class Refusal(StrEnum):
    """A reason to refuse. The HTTP layer maps each to one answer, in one table."""

    UNKNOWN_SESSION = "unknown_session"
    """No such session (or none of this user's)."""
    SESSION_ENDED = "session_ended"
    """It was ended before."""
    SESSION_EXPIRED = "session_expired"
    """It ran into its idle timeout or its absolute lifetime."""
    TOKEN_REUSED = "token_reused"
    """The token had been replaced: the family is revoked now."""
    TOKEN_UNRECOGNISED = "token_unrecognised"
    """A genuine token that this history never issued."""
    WRONG_CLIENT = "wrong_client"
    """The token belongs to another OAuth client."""
    USER_DISABLED = "user_disabled"
    """The user may not sign in."""
    CREDENTIALS_CHANGED = "credentials_changed"
    """The password was replaced while this sign-in was verifying the old one."""
    UNKNOWN_USER = "unknown_user"
    """No such user."""
    DUPLICATE_USER = "duplicate_user"
    """The name or subject is taken."""
    NOTHING_TO_DO = "nothing_to_do"
    """The state is already as asked."""
