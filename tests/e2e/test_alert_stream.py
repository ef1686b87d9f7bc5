"""The live stream of alerts: as they happen, without a gap, and only to whom it may concern."""

from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from domain.detection import Severity
from domain.events.users import Role
from tests.alerts import raised, repeated
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import append, raise_alert
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, command
from tests.e2e.streaming import stream_of


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


@pytest.fixture
def analyst(shared_service: RunningService, device: Callable[..., Device]) -> Device:
    return signed_in(device(), add_user(shared_service, roles=(Role.ANALYST,)))


def test_an_alert_is_told_of_as_it_is_raised_and_as_it_changes(
    shared_service: RunningService, analyst: Device
) -> None:
    with stream_of(analyst) as stream:
        stream.begin()
        alert = raise_alert(shared_service, raised())
        first = stream.message()
        append(shared_service, alert.alert_id, repeated(severity=Severity.CRITICAL))
        second = stream.message()
        analyst.post(f"/v1/alerts/{alert.alert_id}/acknowledge")
        third = stream.message()

    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.answer.headers["Cache-Control"] == "no-store"
    told = [first, second, third]
    assert [each.alert_id for each in told] == [alert.alert_id] * 3
    assert [each.data and each.data["changes"] for each in told] == [
        ["AlertRaised"],
        ["AlertRepeated"],
        ["AlertAcknowledged"],
    ]
    assert third.data is not None
    assert (third.data["status"], third.data["severity"]) == ("acknowledged", "critical")


def test_a_reader_who_comes_back_misses_nothing(
    shared_service: RunningService, analyst: Device
) -> None:
    with stream_of(analyst) as stream:
        stream.begin()
        seen = raise_alert(shared_service, raised())
        last = stream.message()
    missed = [raise_alert(shared_service, raised()) for _ in range(3)]

    with stream_of(analyst, last.cursor) as stream:
        stream.begin()
        told = [stream.message() for _ in range(3)]
        later = raise_alert(shared_service, raised())
        after = stream.message()

    assert last.alert_id == seen.alert_id
    assert [each.alert_id for each in told] == [alert.alert_id for alert in missed]
    assert after.alert_id == later.alert_id


def test_several_readers_are_told_the_same(shared_service: RunningService, analyst: Device) -> None:
    with stream_of(analyst) as one, stream_of(analyst) as other:
        one.begin()
        other.begin()
        alert = raise_alert(shared_service, raised())

        assert one.message().alert_id == other.message().alert_id == alert.alert_id


@pytest.mark.parametrize("place", ["nonsense", "18446744073709551615-1", "1-1-1", "é"])
def test_a_place_that_is_none_of_this_log_is_a_gap(
    shared_service: RunningService, analyst: Device, place: str
) -> None:
    with stream_of(analyst, place) as stream:
        reset = stream.begin().message()
        alert = raise_alert(shared_service, raised())

        assert reset.event == "reset"
        assert stream.message().alert_id == alert.alert_id


def test_the_stream_ends_with_the_session(analyst: Device) -> None:
    with stream_of(analyst) as stream:
        stream.begin()
        assert analyst.post("/v1/logout").status_code == 204

        assert list(stream.lines) == []


@pytest.mark.parametrize("of", ["the-session", "the-family", "the-user"])
def test_the_stream_ends_when_somebody_revokes_the_reader(
    shared_service: RunningService, analyst: Device, device: Callable[..., Device], of: str
) -> None:
    admin = signed_in(device(), add_user(shared_service, roles=(Role.ADMIN,)))
    session = analyst.session
    path = {
        "the-session": f"/v1/users/{session['user_id']}/sessions/{session['session_id']}",
        "the-family": f"/v1/families/{session['family_id']}",
        "the-user": f"/v1/users/{session['user_id']}/sessions",
    }[of]
    with stream_of(analyst) as stream:
        stream.begin()
        assert admin.delete(path).is_success
        raise_alert(shared_service, raised())

        assert list(stream.lines) == []


def test_the_stream_ends_when_its_reader_has_to_prove_themself_again(
    shared_service: RunningService, analyst: Device, device: Callable[..., Device]
) -> None:
    admin = signed_in(device(), add_user(shared_service, roles=(Role.ADMIN,)))
    with stream_of(analyst) as stream:
        stream.begin()
        held = admin.post(f"/v1/families/{analyst.session['family_id']}/require-step-up")

        assert held.status_code == 204
        assert list(stream.lines) == []


def test_the_stream_ends_when_its_reader_loses_the_role(
    shared_service: RunningService, device: Callable[..., Device]
) -> None:
    account = add_user(shared_service, roles=(Role.ANALYST,))
    with stream_of(signed_in(device(), account)) as stream:
        stream.begin()
        taken = command(shared_service.environment, "users", "roles", account.username)
        raise_alert(shared_service, raised())

        assert taken.returncode == 0, taken.stderr
        assert list(stream.lines) == []


def test_the_stream_outlives_what_other_answers_may_take(
    shared_service: RunningService, analyst: Device
) -> None:
    """Others are cut after ten seconds; a silent stream says something every fifteen."""
    with stream_of(analyst) as stream:
        silent = stream.begin().message()
        alert = raise_alert(shared_service, raised())

        assert (silent.event, silent.data) == (None, None)
        assert silent.cursor is not None
        assert stream.message().alert_id == alert.alert_id


def test_one_member_of_staff_cannot_take_all_places(
    shared_service: RunningService, analyst: Device, device: Callable[..., Device]
) -> None:
    other = signed_in(device(), add_user(shared_service, roles=(Role.AUDITOR,)))
    with ExitStack() as open_streams:
        streams = [open_streams.enter_context(stream_of(analyst)).begin() for _ in range(8)]

        refused = analyst.get("/v1/alerts/stream")
        open_streams.enter_context(stream_of(other)).begin()

    assert {stream.answer.status_code for stream in streams} == {200}
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "30"
    assert refused.json()["type"] == "/problems/rate-limited"


def test_a_stop_of_the_service_ends_the_stream(
    private_service: Callable[..., RunningService], http: httpx.Client
) -> None:
    running = private_service()
    account = add_user(running, roles=(Role.ADMIN,))
    with stream_of(signed_in(Device(running.url, http), account)) as stream:
        stream.begin()

        assert running.stop() == 0
        assert list(stream.lines) == []

    assert "Traceback" not in running.log()
