"""One step of a rebuild in a process of its own, to be killed: ``... CONNINFO STEP``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres import create_engine
from infra.projection_build import build_projections
from infra.projection_compare import Comparison, compare_projections
from infra.projection_folds import Progress
from infra.projection_rollback import rollback_projections
from infra.projection_swap import rebuild_projections, swap_projections
from infra.sealing import DataKeys, MasterKeys


def _compare(engine: AsyncEngine, data_keys: DataKeys, progress: Progress) -> Awaitable[Comparison]:
    return compare_projections(engine, data_keys, progress, 20)


_STEPS: dict[str, Callable[[AsyncEngine, DataKeys, Progress], Awaitable[object]]] = {
    "build": build_projections,
    "compare": _compare,
    "swap": swap_projections,
    "rollback": rollback_projections,
    "rebuild": rebuild_projections,
}


async def _main() -> None:
    engine = create_engine(sys.argv[1], max_connections=2, wait_s=10)
    data_keys = DataKeys(MasterKeys(1, {1: bytes(range(32))}))  # as the fixture ``masters``
    await _STEPS[sys.argv[2]](engine, data_keys, lambda _done, _total: None)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(_main())
