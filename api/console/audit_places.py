"""Places in the log as the audit pages walk them: which leaf was the last at a moment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from api.ports import Services
from audit.tree_ports import TreeReader
from domain.as_of import AsOf, AtInstant, AtLeaf
from domain.events.canonical import microseconds
from domain.transparency import TreeHead

AUDIT = "/console/audit"
"""Where the audit pages are."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewestHead:
    """The newest signed head.

    Attributes:
        head: The head.
        signed_until: When the last event under it happened; None where it is archived.
    """

    head: TreeHead
    signed_until: datetime | None


async def newest_head(services: Services) -> NewestHead | None:
    """The newest signed head; None where nothing was ever signed."""
    head = await services.tree.newest_head()
    if head is None or head.size == 0:
        return None
    return NewestHead(head, await happened_at(services.tree, head.size - 1))


async def leaf_of(tree: TreeReader, moment: AsOf, size: int) -> int | None:
    """Which leaf is the last at a moment; None where there is none.

    Args:
        tree: The stored tree.
        moment: The moment.
        size: Of the newest tree.
    """
    if isinstance(moment, AtLeaf):
        return moment.leaf if moment.leaf < size else None
    if not isinstance(moment, AtInstant):
        return await tree.leaf_at(moment.position)
    last = await tree.last_by(microseconds(moment.at))
    return None if last is None else min(last, size - 1)


async def happened_at(tree: TreeReader, leaf: int) -> datetime | None:
    """When a leaf's event happened; None where it is not in the database, or says no instant."""
    found = await tree.entries(leaf, 1)
    try:
        return _EPOCH + timedelta(microseconds=found[0].occurred_at) if found else None
    except OverflowError:  # no build of ours wrote that: its proof will say so
        return None
