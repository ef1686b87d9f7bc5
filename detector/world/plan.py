"""What a world is made from."""

from datetime import UTC, datetime
from random import Random

import msgspec


class World(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a world; the same ones always make the same file.

    Attributes:
        seed: Of all chance.
        users: How many honest users.
        days: How long it lasts, after the history of those who were away.
        attacks: How many attacks of each kind; None for one to a hundred users, at least one.
        geo: Whether lines carry what a GeoIP database would say.
        start: Its first midnight, UTC.
    """

    seed: int = 7
    users: int = 2_000
    days: int = 14
    attacks: int | None = None
    geo: bool = True
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC)

    def __post_init__(self) -> None:
        """Refuse what no world can be made from.

        Raises:
            ValueError: Too few users or days, or attacks on more users than there are.
        """
        if self.users < 1:
            msg = "a world needs at least one user"
            raise ValueError(msg)
        if self.days < MIN_DAYS:
            msg = f"a world lasts at least {MIN_DAYS} days, or nobody is known when attacks begin"
            raise ValueError(msg)

    @property
    def attacks_of_a_kind(self) -> int:
        """How many attacks of each kind."""
        return max(1, self.users // 100) if self.attacks is None else self.attacks

    @property
    def start_ms(self) -> int:
        """The first midnight in milliseconds since 1970."""
        return int(self.start.timestamp() * 1000)


MIN_DAYS = 7


def dice_for(world: World, *names: object) -> Random:
    """Chance that belongs to one part of a world, so that one part does not disturb another."""
    seed = "/".join(str(name) for name in (world.seed, *names))
    return Random(seed)  # noqa: S311 - a made-up world has to come out the same again
