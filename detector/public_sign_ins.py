"""The public RBA data set: its sign-ins through the judgement that judges those here, in one pass.

Wiefling et al., "Pump up password security!", TOPS 2022. Successful sign-ins are judged, in the
file's order. All but the takeovers are learned from, as where an analyst has named these.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import log10

import msgspec

from detector.memory import Key, Memory, Scope, decode_state, encode_state
from detector.observations import Kind, Observation
from detector.observing import observe_crowd, observe_user
from detector.policy import RulesInForce
from detector.profile import NOBODY, UserProfile
from detector.ranking import Ranking
from detector.rulebook import Rulebook
from detector.sighting import Sighting
from detector.sign_in_risk import risk_of
from domain.client import USER_AGENT_MAX_CHARS, ClientContext, canonical_ip, network_of
from domain.evidence import Device, Network
from domain.ids import EventId, FamilyId, UserId

HISTORY_SIZES = (4, 12, 20, 39)
"""Numbers of earlier sign-ins that the paper tells figures for."""
_SILENT = RulesInForce(Rulebook(()))
_FAMILY = FamilyId("public")
_OF_A_USER = (Scope.PROFILE, Scope.ACCOUNT)
_UNSCORED = -1_000.0
"""First sign-ins, of which nothing can be told, are the last to be challenged."""
_COLUMNS = {
    "Login Timestamp": "at",
    "User ID": "user",
    "IP Address": "ip",
    "Country": "country",
    "City": "city",
    "ASN": "asn",
    "User Agent String": "user_agent",
    "Browser Name and Version": "browser",
    "OS Name and Version": "platform",
    "Device Type": "form",
    "Login Successful": "is_success",
    "Is Account Takeover": "is_takeover",
}
_FORMS = {"desktop", "mobile", "tablet", "bot"}
_TRUE = {"true", "1"}


class ColumnsError(ValueError):
    """The file is not the data set; the message says what it lacks."""


class PublicSignIn(msgspec.Struct, frozen=True):
    """One row, as far as it is read."""

    at: datetime
    user: str
    ip: str
    country: str
    city: str
    asn: str
    user_agent: str
    browser: str
    platform: str
    form: str
    is_takeover: bool


def read_rows(rows: Iterable[Sequence[str]]) -> Iterable[PublicSignIn | None]:
    """The file's rows; None for one that failed to sign in, or cannot be read.

    Raises:
        ColumnsError: A column is missing.
    """
    rows = iter(rows)
    header = next(rows, ())
    places = {name: header.index(column) for column, name in _COLUMNS.items() if column in header}
    missing = [column for column, name in _COLUMNS.items() if name not in places]
    if missing:
        msg = f"not the RBA data set: it has no column {missing[0]!r}"
        raise ColumnsError(msg)
    return _read(rows, places)


def _read(
    rows: Iterable[Sequence[str]], places: Mapping[str, int]
) -> Iterable[PublicSignIn | None]:
    success, takeover = places["is_success"], places["is_takeover"]
    at, width = places["at"], max(places.values())
    user, ip, country, city, asn, agent, browser, platform, form = (
        places[name] for name in PublicSignIn.__struct_fields__[1:-1]
    )
    for row in rows:
        if len(row) <= width or row[success].lower() not in _TRUE:
            yield None
            continue
        try:
            moment = datetime.fromisoformat(row[at]).replace(tzinfo=UTC)
        except ValueError:
            yield None
            continue
        yield PublicSignIn(
            moment,
            row[user],
            row[ip],
            row[country],
            row[city],
            row[asn],
            row[agent],
            row[browser],
            row[platform],
            row[form],
            row[takeover].lower() in _TRUE,
        )


class PublicReport(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        rows: Of the file.
        users: Users with a successful sign-in.
        first_sign_ins: Of which nothing can be told.
        points: The ranking by our points.
        published: The ranking by the published score alone.
        novelty: The ranking by "new country or new ASN".
        by_history: By number of earlier sign-ins, the honest ones ranked by our points.
    """

    rows: int
    users: int
    first_sign_ins: int
    points: Ranking
    published: Ranking
    novelty: Ranking
    by_history: Mapping[int, Ranking]


class PublicSignIns:
    """Takes the data set in, row by row."""

    def __init__(self, classify: Callable[[Network], Network]) -> None:
        """Start with nobody known.

        Args:
            classify: Marks what is hosting or satellite.
        """
        self._classify = classify
        self._memory = Memory()
        self._packed: dict[Key, bytes] = {}
        self._rows = 0
        self._users = 0
        self._first_sign_ins = 0
        self._points = Ranking()
        self._published = Ranking()
        self._novelty = Ranking()
        self._by_history = {size: Ranking() for size in HISTORY_SIZES}

    def take(self, row: PublicSignIn | None) -> None:
        """Judge one row, and learn from it."""
        self._rows += 1
        if row is None:
            return
        seen = self._seen(row)
        self._unpack(row.user)
        self._judge(row, seen)
        self._pack()

    def _judge(self, row: PublicSignIn, seen: Observation) -> None:
        context, _ = observe_crowd(self._memory, seen, _SILENT)
        profile = self._memory.get((Scope.PROFILE, row.user), UserProfile) or NOBODY
        sighting = Sighting(seen, profile, None, context)
        risk, score = risk_of(sighting), sighting.risk_score
        is_first = risk is None or score is None
        self._users += not profile.sign_ins
        self._first_sign_ins += is_first
        points = _UNSCORED if risk is None else risk.points
        ratio = _UNSCORED if score is None else round(log10(score.ratio), 2)
        novelty = not is_first and (sighting.asn_is_new or sighting.country_is_new)
        self._points.add(points, is_takeover=row.is_takeover)
        self._published.add(ratio, is_takeover=row.is_takeover)
        self._novelty.add(float(novelty), is_takeover=row.is_takeover)
        if row.is_takeover:
            return
        by_history = self._by_history.get(profile.sign_ins)
        if by_history is not None:
            by_history.add(points, is_takeover=False)
        observe_user(self._memory, seen, context, _SILENT)
        self._memory.forget((Scope.TRACE, _FAMILY))

    def _unpack(self, user: str) -> None:
        """Have what is known of a user at hand."""
        for scope in _OF_A_USER:
            packed = self._packed.pop((scope, user), None)
            if packed is not None:
                self._memory.put((scope, user), decode_state(scope, packed))

    def _pack(self) -> None:
        """Put it away again: packed, millions of users fit into memory."""
        for key, state in list(self._memory.changes()):
            if key[0] in _OF_A_USER and state is not None:
                self._packed[key] = encode_state(state)
                self._memory.forget(key)
        self._memory.settle()

    def report(self) -> PublicReport:
        """What it came to so far."""
        return PublicReport(
            self._rows,
            self._users,
            self._first_sign_ins,
            self._points,
            self._published,
            self._novelty,
            self._by_history,
        )

    def _seen(self, row: PublicSignIn) -> Observation:
        ip = canonical_ip(row.ip)
        browser, browser_version = _versioned(row.browser)
        platform, platform_version = _versioned(row.platform)
        network = Network(
            prefix=None if ip is None else network_of(ip),
            version=6 if ip is not None and ":" in ip else 4,
            asn=int(row.asn) if row.asn.isdecimal() else None,
            country=row.country or None,
            city=row.city if row.city not in {"", "-"} else None,
        )
        return Observation(
            kind=Kind.SIGN_IN,
            second=row.at.timestamp(),
            event_id=EventId(str(self._rows)),
            user_id=UserId(row.user),
            family_id=_FAMILY,
            client=ClientContext(ip=ip, user_agent=row.user_agent[:USER_AGENT_MAX_CHARS]),
            network=self._classify(network),
            device=Device(
                platform=platform,
                platform_version=platform_version,
                form=row.form if row.form in _FORMS else "other",
                browser=browser,
                browser_version=_major(browser_version),
            ),
        )


def _versioned(text: str) -> tuple[str | None, str | None]:
    """A name and its version.

    >>> _versioned("Chrome Mobile 81.0.4044"), _versioned("Linux"), _versioned("")
    (('Chrome Mobile', '81.0.4044'), ('Linux', None), (None, None))
    """
    name, _, version = text.rpartition(" ")
    if name and version[:1].isdecimal():
        return name, version
    return text or None, None


def _major(version: str | None) -> int | None:
    major = (version or "").partition(".")[0]
    return int(major) if major.isdecimal() else None
