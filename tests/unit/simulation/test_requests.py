"""The request file: what a line may say, and what becomes of one that makes no sense."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from detector.simulation.requests import (
    BadLineError,
    Geo,
    Login,
    LoginFailed,
    Logout,
    Refresh,
    VerdictGiven,
    client_of,
    instant_of,
    read_request,
)
from domain.detection import Verdict
from tests.unit.simulation.builders import encoded

AT = "2026-01-05T08:00:00Z"
EIGHT = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_a_login_has_every_member_that_the_format_has() -> None:
    read = read_request(
        encoded(
            at=AT,
            do="login",
            user="u17",
            family="f1",
            ip="203.0.113.7",
            user_agent="Mozilla/5.0",
            hints={"sec-ch-ua-mobile": "?0"},
            device_id="d1",
            geo={
                "country": "NO",
                "city": "Oslo",
                "lat": 59.91,
                "lon": 10.75,
                "asn": 2119,
                "as_org": "Telenor",
                "anonymous": False,
            },
            label="honest",
        )
    )

    assert isinstance(read, Login)
    assert (read.user, read.family, instant_of(read)) == ("u17", "f1", EIGHT)
    assert read.geo == Geo(
        country="NO", city="Oslo", lat=59.91, lon=10.75, asn=2119, as_org="Telenor"
    )
    client = client_of(read)
    assert (client.ip, client.user_agent, client.device_key) == ("203.0.113.7", "Mozilla/5.0", "d1")
    assert client.hints == {"sec-ch-ua-mobile": "?0"}


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"do": "login", "user": "u", "family": "f"}, Login),
        ({"do": "login_failed", "user": "u"}, LoginFailed),
        ({"do": "refresh", "family": "f", "generation": 1}, Refresh),
        ({"do": "logout", "family": "f"}, Logout),
        ({"do": "verdict", "family": "f", "verdict": "benign"}, VerdictGiven),
    ],
)
def test_all_but_what_a_request_needs_may_be_missing(
    members: dict[str, object], kind: type
) -> None:
    read = read_request(encoded(at=AT, **members))

    assert type(read) is kind
    assert client_of(read).ip is None


def test_what_is_null_is_missing() -> None:
    read = read_request(
        encoded(
            at=AT, do="logout", family="f",
            ip=None, user_agent=None, hints=None, device_id=None, geo=None,
        )
    )  # fmt: skip

    assert client_of(read) == client_of(read_request(encoded(at=AT, do="logout", family="f")))


def test_members_that_nobody_knows_are_not_read() -> None:
    plain = read_request(encoded(at=AT, do="logout", family="f"))

    assert read_request(encoded(at=AT, do="logout", family="f", label=["x"], more={})) == plain


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_can_be_given(verdict: Verdict) -> None:
    read = read_request(encoded(at=AT, do="verdict", family="f", verdict=verdict.value))

    assert isinstance(read, VerdictGiven)
    assert read.verdict is verdict


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T08:00:00Z",
        "2026-01-05T08:00:00+00:00",
        "2026-01-05T10:30:00+02:30",
        "2026-01-05T03:00:00-05:00",
        "2026-01-05 08:00:00Z",
    ],
)
def test_any_offset_names_the_same_instant(text: str) -> None:
    assert instant_of(read_request(encoded(at=text, do="logout", family="f"))) == EIGHT


@pytest.mark.parametrize("name", ["a b", "ж", "用户", "🦉", "f'1\"", "\\", "x" * 512, "\u0000"])
def test_names_may_be_any_text(name: str) -> None:
    read = read_request(encoded(at=AT, do="login", user=name, family=name))

    assert isinstance(read, Login)
    assert (read.user, read.family) == (name, name)


@pytest.mark.parametrize(
    ("told", "canonical"),
    [
        ("203.0.113.7:443", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
    ],
)
def test_an_address_has_one_spelling(told: str, canonical: str) -> None:
    read = read_request(encoded(at=AT, do="logout", family="f", ip=told))

    assert client_of(read).ip == canonical


def test_user_agents_are_cut_and_names_of_hints_made_small_as_in_the_service() -> None:
    read = read_request(
        encoded(at=AT, do="logout", family="f", user_agent="x" * 600, hints={"Sec-CH-UA": "a"})
    )

    assert len(client_of(read).user_agent or "") == 512
    assert client_of(read).hints == {"sec-ch-ua": "a"}


REFRESH = {"at": AT, "do": "refresh", "family": "f", "generation": 1}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"null", "object"),
        (b"[]", "object"),
        (b'"login"', "object"),
        (b"{}", "`do`"),
        (b"{'at': 1}", "malformed"),
        (encoded(at=AT, do="logout", family="f") + b" {}", "malformed"),
        (b'\xff\xfe{"do":"logout"}', "malformed"),
        (b'{"do":"logout","family":"\xff","at":"2026-01-05T08:00:00Z"}', "utf-8"),
        (rb'{"do":"logout","family":"\ud800","at":"2026-01-05T08:00:00Z"}', "surrogate"),
        (encoded(do="login", user="u", family="f"), "`at`"),
        (encoded(at=AT, do="login", user="u"), "`family`"),
        (encoded(at=AT, do="login", family="f"), "`user`"),
        (encoded(at=AT, do="dance", family="f"), "dance"),
        (encoded(**{**REFRESH, "generation": 0}), ">= 1"),
        (encoded(**{**REFRESH, "generation": -1}), ">= 1"),
        (encoded(**{**REFRESH, "generation": 2**32}), "<= 4294967295"),
        (encoded(**{**REFRESH, "generation": "1"}), "`int`"),
        (encoded(**{**REFRESH, "generation": 1.5}), "`int`"),
        (encoded(**{**REFRESH, "family": ""}), "length >= 1"),
        (encoded(**{**REFRESH, "family": "x" * 513}), "length <= 512"),
        (encoded(**{**REFRESH, "family": 7}), "`str`"),
        (encoded(**{**REFRESH, "at": "2026-01-05T08:00:00"}), "no offset"),
        (encoded(**{**REFRESH, "at": "yesterday"}), "RFC3339"),
        (encoded(**{**REFRESH, "at": 1767600000}), "`datetime`"),
        (encoded(**{**REFRESH, "at": "0001-01-01T00:00:00+14:00"}), "between 1970 and 2999"),
        (encoded(**{**REFRESH, "at": "9999-12-31T23:59:59-14:00"}), "between 1970 and 2999"),
        (encoded(**{**REFRESH, "ip": "Oslo"}), "not an IP address"),
        (encoded(**{**REFRESH, "ip": ""}), "not an IP address"),
        (encoded(**{**REFRESH, "hints": ["a"]}), "`object"),
        (encoded(**{**REFRESH, "hints": {"a": 1}}), "`str`"),
        (encoded(**{**REFRESH, "geo": {"lat": 91}}), "<= 90"),
        (encoded(**{**REFRESH, "geo": {"lon": "10"}}), "`float"),
        (encoded(**{**REFRESH, "geo": {"asn": -1}}), ">= 0"),
        (encoded(**{**REFRESH, "geo": "NO"}), "`object"),
        (encoded(at=AT, do="verdict", family="f", verdict="maybe"), "maybe"),
    ],
)
def test_a_line_that_is_no_request_says_why(line: bytes, why: str) -> None:
    with pytest.raises(BadLineError) as refused:
        read_request(line)

    assert why.lower() in str(refused.value).lower()


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z"])
def test_the_first_and_the_last_instant_are_read(at: str) -> None:
    assert instant_of(read_request(encoded(**{**REFRESH, "at": at}))).utcoffset() == timedelta(0)


@pytest.mark.parametrize("at", ["1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z"])
def test_what_lies_outside_is_not(at: str) -> None:
    with pytest.raises(BadLineError):
        read_request(encoded(**{**REFRESH, "at": at}))


def test_numbers_without_end_and_deep_nests_are_bad_lines_and_no_more() -> None:
    for line in (
        b'{"at":' + b"9" * 5000 + b',"do":"logout","family":"f"}',
        b'{"do":' + b"[" * 100_000,
        b'{"at":"' + AT.encode() + b'","do":"refresh","family":"f","generation":' + b"9" * 400,
    ):
        with pytest.raises(BadLineError):
            read_request(line)


def test_what_was_read_can_be_written_and_read_again() -> None:
    read = read_request(encoded(**REFRESH, geo={"country": "NO"}))

    assert read_request(msgspec.json.encode(read)) == read
