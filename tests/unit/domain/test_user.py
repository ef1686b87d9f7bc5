"""Users: the rules of their commands, and what each event does to them."""

import pytest

from domain.events.envelope import NewEvent
from domain.events.families import EndReason
from domain.events.personal import Personal, PersonalPart, Sealed
from domain.events.users import (
    PasswordChanged,
    Role,
    RolesChanged,
    UserDisabled,
    UserEnabled,
    UserErased,
    UserEvent,
    UserOrigin,
    UserRegistered,
    UserSessionsEnded,
)
from domain.family import ImpossibleEventError
from domain.refusals import Refusal
from domain.user import (
    ChangePassword,
    ChangeRoles,
    DisableUser,
    EnableUser,
    EndUserSessions,
    EraseUser,
    RegisterUser,
    User,
    UserCommand,
    UserDecision,
    decide_user,
    evolve_user,
    fold_new_user,
    refusal_to_sign_in,
)
from tests.unit.domain.builders import HOUR, NOW, SECOND, USER_ID

REGISTER = RegisterUser(origin=UserOrigin.LOCAL, username="ada@example.com")
SEALED = Sealed("event", b"box")


def carried_out(
    user: User | None, command: UserCommand, *, at_hour: int = 0
) -> tuple[UserDecision, User]:
    decision = decide_user(user, command)
    return decision, fold_new_user(user, USER_ID, decision.events, NOW + at_hour * HOUR)


def registered(command: RegisterUser = REGISTER) -> User:
    return carried_out(None, command)[1]


def disabled() -> User:
    return carried_out(registered(), DisableUser())[1]


def erased() -> User:
    return carried_out(registered(), EraseUser())[1]


def accepted(event: UserEvent, personal: Personal | None = None) -> UserDecision:
    return UserDecision((NewEvent(event, personal),))


def refused(refusal: Refusal) -> UserDecision:
    return UserDecision(refusal=refusal)


# Registration


def test_a_local_user_is_registered_by_name() -> None:
    command = RegisterUser(
        origin=UserOrigin.LOCAL,
        username="ada@example.com",
        roles=(Role.AUDITOR, Role.ADMIN, Role.AUDITOR),
    )

    decision, user = carried_out(None, command)

    assert decision == accepted(
        UserRegistered(origin=UserOrigin.LOCAL, roles=[Role.ADMIN, Role.AUDITOR]),
        Personal(username="ada@example.com"),
    )
    assert user == User(
        user_id=USER_ID,
        version=1,
        origin=UserOrigin.LOCAL,
        username="ada@example.com",
        roles=(Role.ADMIN, Role.AUDITOR),
        registered_at=NOW,
    )
    assert user.subject == USER_ID


def test_an_external_user_is_registered_by_subject() -> None:
    command = RegisterUser(origin=UserOrigin.EXTERNAL, external_subject="auth0|7")

    decision, user = carried_out(None, command)

    assert decision == accepted(
        UserRegistered(origin=UserOrigin.EXTERNAL), Personal(external_subject="auth0|7")
    )
    assert user == User(
        user_id=USER_ID,
        version=1,
        origin=UserOrigin.EXTERNAL,
        external_subject="auth0|7",
        registered_at=NOW,
    )
    assert user.subject == "auth0|7"


def test_a_user_is_registered_once() -> None:
    user = registered()

    decision, after = carried_out(user, REGISTER)

    assert decision == refused(Refusal.DUPLICATE_USER)
    assert after == user


@pytest.mark.parametrize(
    "command",
    [
        ChangePassword(expected_epoch=0),
        ChangeRoles(roles=()),
        DisableUser(),
        EnableUser(),
        EndUserSessions(reason=EndReason.STAFF, families=1),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_command_for_a_user_who_does_not_exist_is_refused(command: UserCommand) -> None:
    assert decide_user(None, command) == refused(Refusal.UNKNOWN_USER)


# Passwords


def test_a_password_change_counts_one_epoch() -> None:
    user = registered()

    decision, after = carried_out(user, ChangePassword(expected_epoch=0))

    assert decision == accepted(PasswordChanged())
    assert (after.credential_epoch, after.version) == (1, 2)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_password_change_that_verified_another_password_is_refused(epoch: int) -> None:
    _, user = carried_out(registered(), ChangePassword(expected_epoch=0))

    decision, after = carried_out(user, ChangePassword(expected_epoch=epoch))

    assert decision == refused(Refusal.CREDENTIALS_CHANGED)
    assert after == user


def test_a_disabled_user_does_not_change_their_password() -> None:
    user = disabled()

    decision, after = carried_out(user, ChangePassword(expected_epoch=0))

    assert decision == refused(Refusal.USER_DISABLED)
    assert after == user


# Roles


def test_roles_are_a_sorted_set() -> None:
    user = registered()

    decision, after = carried_out(
        user, ChangeRoles(roles=(Role.AUDITOR, Role.ANALYST, Role.AUDITOR))
    )

    assert decision == accepted(RolesChanged(roles=[Role.ANALYST, Role.AUDITOR]))
    assert after.roles == (Role.ANALYST, Role.AUDITOR)
    assert after.version == 2


def test_roles_can_be_taken_away() -> None:
    _, user = carried_out(registered(), ChangeRoles(roles=(Role.ADMIN,)))

    decision, after = carried_out(user, ChangeRoles(roles=()))

    assert decision == accepted(RolesChanged(roles=[]))
    assert after.roles == ()


def test_the_same_roles_again_change_nothing() -> None:
    _, user = carried_out(registered(), ChangeRoles(roles=(Role.ANALYST, Role.AUDITOR)))

    decision, after = carried_out(user, ChangeRoles(roles=(Role.AUDITOR, Role.ANALYST)))

    assert decision == refused(Refusal.NOTHING_TO_DO)
    assert after == user


# Disabling


def test_disabled_user() -> None:
    user = registered()

    decision, after = carried_out(user, DisableUser(), at_hour=1)

    assert decision == accepted(UserDisabled())
    assert (after.disabled_at, after.version) == (NOW + HOUR, 2)
    assert refusal_to_sign_in(after, 0) is Refusal.USER_DISABLED


def test_a_user_is_disabled_once() -> None:
    user = disabled()

    decision, after = carried_out(user, DisableUser(), at_hour=1)

    assert decision == refused(Refusal.NOTHING_TO_DO)
    assert after == user


def test_a_disabled_user_is_enabled_again() -> None:
    user = disabled()

    decision, after = carried_out(user, EnableUser())

    assert decision == accepted(UserEnabled())
    assert (after.disabled_at, after.version) == (None, 3)
    assert refusal_to_sign_in(after, 0) is None


def test_an_enabled_user_is_not_enabled() -> None:
    user = registered()

    decision, after = carried_out(user, EnableUser())

    assert decision == refused(Refusal.NOTHING_TO_DO)
    assert after == user


# Sessions


def test_the_end_of_several_sessions_is_noted() -> None:
    user = registered()

    decision, after = carried_out(user, EndUserSessions(EndReason.LOGOUT_ALL, 10_000))

    assert decision == accepted(UserSessionsEnded(reason=EndReason.LOGOUT_ALL, families=10_000))
    assert after.version == 2


def test_the_end_of_no_session_is_not_noted() -> None:
    user = registered()

    decision, after = carried_out(user, EndUserSessions(EndReason.LOGOUT_ALL, 0))

    assert decision == refused(Refusal.NOTHING_TO_DO)
    assert after == user


# Erasure


def test_of_an_erased_user_an_id_is_left() -> None:
    user = registered(
        RegisterUser(origin=UserOrigin.LOCAL, username="ada@example.com", roles=(Role.ADMIN,))
    )

    decision, after = carried_out(user, EraseUser("request 4711"), at_hour=1)

    assert decision == accepted(UserErased(reason="request 4711"))
    assert (after.username, after.external_subject, after.roles) == (None, None, ())
    assert (after.erased_at, after.version, after.subject) == (NOW + HOUR, 2, USER_ID)


def test_sealed_names_are_forgotten_alike() -> None:
    registration = UserRegistered(origin=UserOrigin.EXTERNAL)
    user = evolve_user(None, USER_ID, registration, SEALED, NOW)

    after = evolve_user(user, USER_ID, UserErased(), None, NOW + HOUR)

    assert after.external_subject is None


def test_a_user_is_erased_once() -> None:
    user = erased()

    decision, after = carried_out(user, EraseUser(), at_hour=1)

    assert decision == refused(Refusal.NOTHING_TO_DO)
    assert after == user


@pytest.mark.parametrize(
    "command",
    [
        REGISTER,
        ChangePassword(expected_epoch=0),
        ChangeRoles(roles=(Role.ADMIN,)),
        DisableUser(),
        EnableUser(),
        EndUserSessions(EndReason.STAFF, 1),
    ],
    ids=lambda command: type(command).__name__,
)
def test_nothing_happens_to_an_erased_user_any_more(command: UserCommand) -> None:
    user = erased()

    decision, after = carried_out(user, command)

    assert decision.refusal in {Refusal.SUBJECT_ERASED, Refusal.DUPLICATE_USER}
    assert after == user


def test_an_erased_user_does_not_sign_in() -> None:
    assert refusal_to_sign_in(erased(), 0) is Refusal.SUBJECT_ERASED


@pytest.mark.parametrize(
    "command",
    [REGISTER, RegisterUser(origin=UserOrigin.EXTERNAL, external_subject="ada@example.com")],
    ids=["user name", "external subject"],
)
def test_a_reason_that_names_the_user_is_refused(command: RegisterUser) -> None:
    decision, after = carried_out(registered(command), EraseUser("asked by Ada@Example.com"))

    assert decision == refused(Refusal.REASON_NAMES_USER)
    assert after.erased_at is None


# Sign-in


def test_login_vs_password_change() -> None:
    """The sign-in verified the old password, and the change committed first."""
    before = registered()
    _, after = carried_out(before, ChangePassword(expected_epoch=0))

    assert refusal_to_sign_in(before, 0) is None
    assert refusal_to_sign_in(after, 0) is Refusal.CREDENTIALS_CHANGED
    assert refusal_to_sign_in(after, 1) is None
    assert refusal_to_sign_in(before, 1) is Refusal.CREDENTIALS_CHANGED


def test_a_user_who_does_not_exist_may_not_sign_in() -> None:
    assert refusal_to_sign_in(None, 0) is Refusal.UNKNOWN_USER


def test_a_disabled_user_is_told_so_whatever_their_password_was() -> None:
    assert refusal_to_sign_in(disabled(), 7) is Refusal.USER_DISABLED


# The fold


@pytest.mark.parametrize(
    "event",
    [
        PasswordChanged(),
        RolesChanged(roles=[]),
        UserDisabled(),
        UserEnabled(),
        UserSessionsEnded(reason=EndReason.STAFF, families=1),
        UserErased(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_user_begins_with_nothing_but_a_registration(event: UserEvent) -> None:
    with pytest.raises(
        ImpossibleEventError, match=f"^user {USER_ID} begins with {type(event).__name__}$"
    ):
        evolve_user(None, USER_ID, event, None, NOW)


def test_a_user_does_not_register_a_second_time() -> None:
    event = UserRegistered(origin=UserOrigin.LOCAL)

    with pytest.raises(ImpossibleEventError, match=f"^user {USER_ID} is registered a second time$"):
        evolve_user(registered(), USER_ID, event, None, NOW)


@pytest.mark.parametrize(
    ("origin", "personal", "username", "subject"),
    [
        (UserOrigin.LOCAL, Personal(username="ada"), "ada", None),
        (UserOrigin.EXTERNAL, Personal(external_subject="7"), None, "7"),
        (UserOrigin.LOCAL, SEALED, SEALED, None),
        (UserOrigin.EXTERNAL, SEALED, None, SEALED),
        (UserOrigin.LOCAL, None, None, None),
        (UserOrigin.EXTERNAL, None, None, None),
    ],
    ids=["local", "external", "local sealed", "external sealed", "local none", "external none"],
)
def test_a_registration_carries_its_personal_part_along(
    origin: UserOrigin,
    personal: PersonalPart,
    username: str | Sealed | None,
    subject: str | Sealed | None,
) -> None:
    user = evolve_user(None, USER_ID, UserRegistered(origin=origin), personal, NOW)

    assert user.username == username
    assert user.external_subject == subject
    assert user.subject == (subject if isinstance(subject, str) else USER_ID)


def test_decided_events_are_folded_in_order() -> None:
    decided = [NewEvent(UserDisabled()), NewEvent(UserEnabled()), NewEvent(PasswordChanged())]

    user = fold_new_user(registered(), USER_ID, decided, NOW + SECOND)

    assert (user.version, user.disabled_at, user.credential_epoch) == (4, None, 1)


def test_nothing_folded_into_nothing_is_impossible() -> None:
    with pytest.raises(ImpossibleEventError, match=f"^user {USER_ID} has no events$"):
        fold_new_user(None, USER_ID, [], NOW)
