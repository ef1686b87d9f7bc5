"""What passwords, user names, device names and comments look like (NIST SP 800-63B-4 §3.1.1.2).

Length only, no composition rules; Unicode normalised (NFC) before hashing; nothing is truncated.
"""

import unicodedata
from collections.abc import Container

MIN_PASSWORD_CODE_POINTS = 8
MAX_PASSWORD_CODE_POINTS = 1024
MAX_USERNAME_CODE_POINTS = 254
MAX_DEVICE_NAME_CODE_POINTS = 100
MAX_COMMENT_CODE_POINTS = 4_000

_LINES = str.maketrans("\n\t", "  ")


class InvalidTextError(ValueError):
    """Text that cannot be a password, user name, device name or comment; the message says why."""


def normalise_password(password: str) -> str:
    """The form of a password that is hashed: OpaqueString (RFC 8265 §4.2.2), spaces as one, NFC.

    Raises:
        InvalidTextError: It is too long, or holds a control character or a lone surrogate.
    """
    if len(password) > MAX_PASSWORD_CODE_POINTS:
        msg = f"a password has at most {MAX_PASSWORD_CODE_POINTS} characters"
        raise InvalidTextError(msg)
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    normalised = unicodedata.normalize("NFC", spaced)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in normalised):
        msg = "a password holds no control characters"
        raise InvalidTextError(msg)
    return normalised


def accept_new_password(password: str, blocklist: Container[str]) -> str:
    """Check a password that a user wants to have.

    Args:
        password: As typed.
        blocklist: Common passwords, in lower case.

    Returns:
        The normalised form to hash.

    Raises:
        InvalidTextError: Too short, too long, malformed or too common.
    """
    normalised = normalise_password(password)
    if len(normalised) < MIN_PASSWORD_CODE_POINTS:
        msg = f"a password has at least {MIN_PASSWORD_CODE_POINTS} characters"
        raise InvalidTextError(msg)
    if normalised.lower() in blocklist:
        msg = "this password is among the most common ones; choose another"
        raise InvalidTextError(msg)
    return normalised


def normalise_username(username: str) -> str:
    """The form under which a user name is looked up: NFKC, case-folded, trimmed.

    Raises:
        InvalidTextError: It is empty, too long, or holds a control character.
    """
    folded = unicodedata.normalize("NFKC", username).casefold()
    # Folding may leave marks out of order: normalised again, both cases of a name are one name.
    normalised = unicodedata.normalize("NFKC", folded).strip()
    return _printable(normalised, MAX_USERNAME_CODE_POINTS, "user name")


def clean_device_name(name: str) -> str:
    """A device name as it is stored and shown: text, whatever script or emoji it is in.

    Raises:
        InvalidTextError: It is empty, too long, or holds a control character.
    """
    return _printable(
        unicodedata.normalize("NFC", name).strip(), MAX_DEVICE_NAME_CODE_POINTS, "device name"
    )


def clean_comment(comment: str, what: str = "comment") -> str:
    """What a member of staff writes, as it is stored and shown: lines of text.

    Args:
        comment: As typed.
        what: What to call it where it is refused.

    Raises:
        InvalidTextError: It is empty, too long, or holds a control character but for new lines and
            tabs.
    """
    cleaned = unicodedata.normalize("NFC", comment.replace("\r\n", "\n")).strip()
    _printable(cleaned.translate(_LINES), MAX_COMMENT_CODE_POINTS, what)
    return cleaned


def normalise_subject(subject: str) -> str:
    """A backend's own name for a user: kept as it is, only checked.

    Raises:
        InvalidTextError: It is empty, too long, or holds a control character.
    """
    return _printable(subject, MAX_USERNAME_CODE_POINTS, "subject")


def storable(text: str) -> str:
    """Text from a client with what PostgreSQL's ``jsonb`` cannot hold replaced by U+FFFD."""
    return "".join(
        "\ufffd" if character == "\x00" or unicodedata.category(character) == "Cs" else character
        for character in text
    )


def _printable(text: str, max_code_points: int, what: str) -> str:
    if not text:
        msg = f"a {what} is not empty"
        raise InvalidTextError(msg)
    if len(text) > max_code_points:
        msg = f"a {what} has at most {max_code_points} characters"
        raise InvalidTextError(msg)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        msg = f"a {what} holds no control characters"
        raise InvalidTextError(msg)
    return text
