"""One person's life in the world, day by day: sign-ins, refreshes, retries, and being robbed."""

from random import Random

from detector.world.atlas import Atlas, Spot
from detector.world.attacks import TOKEN_KINDS, Attack, Kind, Owner
from detector.world.browsers import Device, Form, any_device
from detector.world.intrusions import Intruder
from detector.world.lines import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Do, Line
from detector.world.people import Person
from detector.world.plan import World
from detector.world.rhythm import ACCESS_TOKEN_MS, bouts_of_a_day, gap_after
from detector.world.thefts import Session, Thief
from detector.world.traps import Trap
from detector.world.whereabouts import access

_LATE_RETRY_PAUSE_MS = 13 * HOUR_MS
"""Two late retries in 24 hours are forgiven (design §5); no honest client here makes more."""
_IDLE_MS = 13 * DAY_MS
_ABSOLUTE_MS = 88 * DAY_MS
_AFTER_THEFT = "honest:after-theft"
_STARTED = 3
"""Generation from which on a session is worth stealing: it has a predecessor to replay."""
_TYPO_SHARE = 0.08
_LOGOUT_SHARE = 0.6


class Life:
    """Somebody's days. Call ``day`` for each in order."""

    def __init__(
        self, person: Person, world: World, atlas: Atlas, dice: Random, attack: Attack | None
    ) -> None:
        """Begin a life.

        Args:
            person: Who.
            world: The world.
            atlas: Its map.
            dice: Their own chance.
            attack: What will be done to them, if anything.
        """
        self._person = person
        self._geo = world.geo
        self._start_ms = world.start_ms
        self._dice = dice
        self._sessions: dict[int, Session] = {}
        self._last_strike_day = world.days - 3  # the owner has time to come back
        self._spot: Spot | None = None
        self._known: set[int] = set()
        self._families = 0
        self._busy_until: dict[int, int] = {}
        self._activity = [dice.uniform(0.35, 0.95) for _ in range(8)]
        self._attack = attack
        self._thief = Thief(attack, atlas, dice, geo=world.geo) if attack else None
        self._intruder = Intruder(attack, atlas, dice, geo=world.geo) if attack else None
        self._waits_for_attack = attack is not None
        self._due: dict[int, list[int]] = {}
        for count, when in enumerate(person.sign_in_days):
            known = len(person.devices)
            index = count if count < known else min(int(dice.expovariate(1.2)), known - 1)
            self._due.setdefault(int(when), []).append(index)
        self._double_tab, self._lost, self._late = _mishaps(person.trap)

    def day(self, day: int) -> list[Line]:
        """The lines of one day, in no order; some may fall into the next.

        Args:
            day: Day of the world, one after the other.
        """
        person = self._person
        if person.new_phone_day == day:
            self._replace_phone(day)
        lines: list[Line] = []
        due = self._due.pop(day, [])
        if self._is_targeted(day) and 0 not in self._sessions and 0 not in due:
            due.append(0)
        shared: list[list[int]] = []
        for index, device in enumerate(person.devices):
            wanted = due.count(index)
            bouts = self._bouts(index, device, day, wanted)
            if person.trap is Trap.SAME_INSTANT:
                shared = shared or bouts
                bouts = [list(bout) for bout in shared]
            self._use(index, device, day, bouts, wanted, lines)
        return lines

    def _use(
        self,
        index: int,
        device: Device,
        day: int,
        bouts: list[list[int]],
        wanted: int,
        lines: list[Line],
    ) -> None:
        """Use a device: the first bouts begin with the sign-ins that are due."""
        strike_after = self._strike_point(index, day, bouts)
        for place, bout in enumerate(bouts):
            for step, at in enumerate(bout):
                if at < self._busy_until.get(index, 0):
                    continue
                client = self._client(device, day, at)
                if client is None:
                    if step == 0 and place < wanted:
                        self._due.setdefault(day + 1, []).append(index)
                    continue
                if step == 0 and place < wanted and not self._is_robbed(index):
                    self._sign_in(index, at, client, lines)
                else:
                    self._refresh(index, device, day, at, client, lines)
                session = self._sessions.get(index)
                if session is not None and (place, step) == strike_after:
                    self._suffer(session, device, client, day, gap_after(bouts, place, step), lines)

    def _is_targeted(self, day: int) -> bool:
        attack = self._attack
        if not self._waits_for_attack or attack is None:
            return False
        return attack.day <= day <= self._last_strike_day

    def _is_robbed(self, index: int) -> bool:
        session = self._sessions.get(index)
        return session is not None and session.is_stolen

    def _client(self, device: Device, day: int, at: int) -> str | None:
        local = at - self._start_ms + self._person.country.offset_ms
        spot = self._person.where.spot(device, day, local, self._dice)
        if spot is None:
            return None
        self._spot = spot
        self._known.add(spot.carrier.asn)
        return device.client(spot, day, geo=self._geo)

    def _sign_in(self, index: int, at: int, client: str, lines: list[Line]) -> None:
        dice, user, label = self._dice, self._person.user, self._person.trap.label
        old = self._sessions.get(index)
        if old is not None and dice.random() < _LOGOUT_SHARE:
            ended = max(at - dice.randint(20, 300) * SECOND_MS, old.last_at + 100 * SECOND_MS)
            at = max(at, ended + SECOND_MS)
            lines.append(Line(ended, Do.LOGOUT, old.label, client=client, family=old.family))
        if dice.random() < _TYPO_SHARE:
            tried = at - dice.randint(5, 18) * SECOND_MS
            lines.append(Line(tried, Do.LOGIN_FAILED, label, client=client, user=user))
        self._open(index, at, client, label, lines)

    def _open(self, index: int, at: int, client: str, label: str, lines: list[Line]) -> None:
        self._families += 1
        family = f"{self._person.user}.{self._families}"
        self._sessions[index] = Session(family, label, at, at)
        lines.append(
            Line(at, Do.LOGIN, label, client=client, user=self._person.user, family=family)
        )

    def _refresh(
        self, index: int, device: Device, day: int, at: int, client: str, lines: list[Line]
    ) -> None:
        session = self._sessions.get(index)
        if session is None or at < session.silent_until or at <= session.last_at:
            return
        if at - session.last_at > _IDLE_MS or at - session.started_at > _ABSOLUTE_MS:
            del self._sessions[index]
            return
        lines.append(self._presented(session, at, client))
        if session.is_stolen:
            self._find_out(index, session, at, client, lines)
            return
        self._mishap(session, at, client, lines)
        session.generation += 1
        session.last_at = at
        if session.shadow is not None and self._thief is not None:
            lines += self._thief.follow(session, device, client, day)

    def _presented(self, session: Session, at: int, client: str) -> Line:
        return Line(
            at,
            Do.REFRESH,
            session.label,
            client=client,
            family=session.family,
            generation=session.generation,
        )

    def _find_out(
        self, index: int, session: Session, at: int, client: str, lines: list[Line]
    ) -> None:
        """The owner is refused, perhaps tries once more, and signs in again later."""
        dice = self._dice
        if dice.random() < 0.5:  # noqa: PLR2004
            lines.append(self._presented(session, at + dice.randint(1_000, 3_000), client))
        again = at + dice.randint(2, 180) * MINUTE_MS
        self._open(index, again, client, _AFTER_THEFT, lines)
        self._busy_until[index] = again + ACCESS_TOKEN_MS

    def _mishap(self, session: Session, at: int, client: str, lines: list[Line]) -> None:
        """Two tabs at once, or a lost response: the same token again, from the same client."""
        dice = self._dice
        draw = dice.random()
        if draw < self._double_tab:
            wait = 0 if self._person.trap is Trap.SAME_INSTANT else dice.randint(0, 2_000)
        elif draw < self._double_tab + self._lost:
            wait = dice.randint(1_000, 8_000)
        elif (
            draw > 1 - self._late
            and session.shadow is None
            and at - session.last_late_at > _LATE_RETRY_PAUSE_MS
        ):
            wait = dice.randint(11_000, 90_000)
            session.last_late_at = at + wait
        else:
            return
        lines.append(self._presented(session, at + wait, client))

    def _bouts(self, index: int, device: Device, day: int, wanted: int) -> list[list[int]]:
        """When a device is used that day: bouts of requests, one each access token's life."""
        dice = self._dice
        # The robbed come back, or nobody would ever learn of it.
        forced = self._is_targeted(day) or self._is_robbed(index)
        is_idle = index not in self._sessions or dice.random() > self._activity[index % 8]
        if is_idle and not wanted and not forced:
            return []
        session = self._sessions.get(index)
        midnight = self._start_ms + day * DAY_MS
        return bouts_of_a_day(
            most=4 if device.model.form is Form.MOBILE else 2,
            least=max(wanted, 3 if forced else 1),
            midnight=midnight,
            offset_ms=self._person.country.offset_ms,
            free_from=ACCESS_TOKEN_MS + (session.last_at if session else 0),
            dice=dice,
        )

    def _strike_point(self, index: int, day: int, bouts: list[list[int]]) -> tuple[int, int] | None:
        """After which of the day's requests the attack comes; None for not today."""
        attack = self._attack
        if attack is None or not self._is_targeted(day) or index or not bouts:
            return None
        known = self._sessions.get(0)
        if known is None or known.generation < _STARTED:
            return None
        last = len(bouts) - 1
        roomy = [
            place
            for place in range(last)
            if bouts[place + 1][0] - bouts[place][-1] > 60 * MINUTE_MS
        ]
        if attack.kind in {Kind.LOCKSTEP, Kind.LATE_LOCKSTEP}:
            return (0, 0)
        place = self._dice.choice(roomy) if roomy and self._dice.random() < 0.5 else last  # noqa: PLR2004
        return (place, len(bouts[place]) - 1)

    def _suffer(
        self,
        session: Session,
        device: Device,
        client: str,
        day: int,
        gap_ms: int,
        lines: list[Line],
    ) -> None:
        attack, thief, intruder = self._attack, self._thief, self._intruder
        if attack is None or thief is None or intruder is None or session.is_stolen:
            return
        if self._spot is None or session.generation < _STARTED:  # only just signed in anew
            return
        user = self._person.user
        near = access(self._spot.carrier, self._spot.city, self._dice)
        owner = Owner(near, device, frozenset(self._known))
        if attack.kind in TOKEN_KINDS:
            struck = thief.strike(session, owner, client, day, gap_ms)
            if struck:  # the owner comes back after the thief's second request
                second = struck[:2][-1].at + SECOND_MS
                session.silent_until = max(session.silent_until, second)
        else:
            struck = intruder.break_in(user, f"{user}.x", owner, session.last_at, day)
        if struck is not None:
            lines += struck
            self._waits_for_attack = False

    def _replace_phone(self, day: int) -> None:
        self._person.devices[0] = any_device(self._dice, Form.MOBILE)
        self._sessions.pop(0, None)
        self._due.setdefault(day, []).append(0)


def _mishaps(trap: Trap) -> tuple[float, float, float]:
    """How likely a double tab, a lost response and a late retry are, of each refresh."""
    match trap:
        case Trap.DOUBLE_TAB:
            return 0.35, 0.004, 0.0005
        case Trap.SAME_INSTANT:
            return 0.2, 0.004, 0.0005
        case Trap.LOST_RESPONSE:
            return 0.004, 0.25, 0.04
        case _:
            return 0.004, 0.004, 0.0005
