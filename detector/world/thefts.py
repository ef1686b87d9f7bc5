"""Token thefts: the lines that a thief leaves in somebody else's family."""

from random import Random

import msgspec

from detector.world.atlas import Atlas
from detector.world.attacks import Attack, Kind, Owner, copied_device, elsewhere, other_device
from detector.world.browsers import Device
from detector.world.lines import HOUR_MS, MINUTE_MS, SECOND_MS, Do, Line
from detector.world.whereabouts import Access, access

WINDOW_MS = 10 * SECOND_MS
"""The overlap window (design §5)."""
_ACCESS_TOKEN_MS = 10 * MINUTE_MS


class Session(msgspec.Struct):
    """What an owner's device knows of its session, and what is being done to it.

    Attributes:
        family: Its family.
        label: The truth about its owner's lines.
        started_at: Sign-in, in milliseconds.
        last_at: The latest of its owner's requests.
        generation: Of the token that its owner holds.
        last_late_at: When its owner last retried after the overlap window.
        is_stolen: The owner's next refresh is refused, and they will sign in again.
        silent_until: The owner leaves the device alone until then.
        shadow: Who follows each of its owner's refreshes, and how often still.
        copied_generation: Of the token that was copied for later; 0 where none was.
    """

    family: str
    label: str
    started_at: int
    last_at: int
    generation: int = 1
    last_late_at: int = 0
    is_stolen: bool = False
    silent_until: int = 0
    shadow: "Shadow | None" = None
    copied_generation: int = 0


class Shadow(msgspec.Struct):
    """A thief in lockstep with a session's owner."""

    attack: Attack
    place: Access | None
    left: int


class Thief:
    """One theft from one victim."""

    def __init__(self, attack: Attack, atlas: Atlas, dice: Random, *, geo: bool) -> None:
        """Make ready."""
        self.attack = attack
        self._atlas = atlas
        self._dice = dice
        self._geo = geo

    def strike(
        self, session: Session, owner: Owner, client: str, day: int, gap_ms: int
    ) -> list[Line] | None:
        """Use what was stolen, after the owner's latest request.

        Args:
            session: The owner's session; marked as stolen.
            owner: Whose it is.
            client: What the owner's latest request showed.
            day: Day of the world.
            gap_ms: How long until the owner's next request today, as far as is known.

        Returns:
            The thief's lines; None where the theft is not over yet.
        """
        dice, attack = self._dice, self.attack
        soon = session.last_at + dice.randint(WINDOW_MS + 5_000, max(gap_ms // 4, 20_000))
        match attack.kind:
            case Kind.SLOW_THEFT if attack.variant == "stale":
                return self._stale(session, owner, day, soon)
            case Kind.SLOW_THEFT:
                session.silent_until = session.last_at + dice.randint(20, 44) * HOUR_MS
                soon = session.last_at + dice.randint(3, 14) * HOUR_MS
                shown = self._shown(owner, day)
                session.is_stolen = True
                return self._chain(session, shown, soon, session.generation)
            case Kind.REUSE:
                session.is_stolen = True
                shown = self._shown(owner, day)
                return [self._line(session, shown, soon, session.generation - 1)]
            case Kind.FUTURE_GENERATION:
                session.is_stolen = True
                shown = client if dice.random() < 0.5 else self._shown(owner, day)  # noqa: PLR2004
                return [self._line(session, shown, soon, session.generation + dice.randint(2, 40))]
            case Kind.LOCKSTEP | Kind.LATE_LOCKSTEP:
                place = None
                if attack.variant == "other-network":
                    place = elsewhere(self._atlas, owner, dice)
                session.shadow = Shadow(attack, place, left=dice.randint(4, 8))
                return []
            case _:
                session.is_stolen = True
                return self._chain(session, self._shown(owner, day), soon, session.generation)

    def follow(self, session: Session, owner: Device, client: str, day: int) -> list[Line]:
        """Present what the owner has just presented, in lockstep."""
        shadow = session.shadow
        if shadow is None:
            return []
        shadow.left -= 1
        if shadow.left == 0:
            session.shadow = None
            session.is_stolen = True
        late = shadow.attack.kind is Kind.LATE_LOCKSTEP
        wait = self._dice.randint(15_000, 240_000) if late else self._dice.randint(800, 7_000)
        shown = client
        if shadow.place is not None:
            copy = copied_device(owner, day, hints=True, cookie=True)
            shown = copy.client(shadow.place.ipv4(day), day, geo=self._geo)
        return [self._line(session, shown, session.last_at + wait, session.generation - 1)]

    def _stale(self, session: Session, owner: Owner, day: int, at: int) -> list[Line] | None:
        if not session.copied_generation:
            session.copied_generation = session.generation
            return None
        if session.generation < session.copied_generation + 2:
            return None
        session.is_stolen = True
        shown = self._shown(owner, day)
        return [self._line(session, shown, at, session.copied_generation)]

    def _shown(self, owner: Owner, day: int) -> str:
        attack, dice = self.attack, self._dice
        place = attack.place or elsewhere(self._atlas, owner, dice)
        device = attack.device or other_device(owner.device, dice)
        if attack.kind is Kind.REPLAY_ASN_UA:
            device = copied_device(
                owner.device,
                day,
                hints="hints" in attack.variant,
                cookie="cookie" in attack.variant,
            )
        elif attack.kind is Kind.REPLAY_NEIGHBOUR or attack.variant == "owner-away":
            place = access(owner.near.carrier, owner.near.city, dice)
            device = copied_device(owner.device, day, hints=True, cookie=attack.variant == "cookie")
        return device.client(place.ipv4(day), day, geo=self._geo)

    def _chain(self, session: Session, shown: str, at: int, generation: int) -> list[Line]:
        lines = []
        for step in range(self._dice.randint(4, 12)):
            lines.append(self._line(session, shown, at, generation + step))
            at += _ACCESS_TOKEN_MS + self._dice.randint(0, 40_000)
        return lines

    def _line(self, session: Session, shown: str, at: int, generation: int) -> Line:
        return Line(
            at,
            Do.REFRESH,
            self.attack.label,
            client=shown,
            family=session.family,
            generation=generation,
        )
