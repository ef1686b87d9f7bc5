"""A rebuild in a process of its own (``python -m bench.rebuild``), to tell its memory."""

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

from bench.environment import Bench
from infra.key_files import load_key_ring
from infra.postgres import create_engine
from infra.projection_swap import rebuild_projections
from infra.sealing import DataKeys


def rebuild_in_own_process(on: Bench, database: str) -> float:
    """Rebuild a database's projections; returns the process's peak resident memory in MB."""
    conninfo = on.conninfo(database, user="postgres")
    output = subprocess.run(
        [sys.executable, "-m", "bench.rebuild", conninfo, str(on.folder / "keys.json")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return float(output)


async def _rebuild(conninfo: str, key_file: Path) -> None:
    engine = create_engine(conninfo, max_connections=4, wait_s=10)
    keys = load_key_ring(key_file, None, None)
    await rebuild_projections(engine, DataKeys(keys.masters), lambda _done, _total: None)
    await engine.dispose()


def _main() -> None:
    asyncio.run(_rebuild(sys.argv[1], Path(sys.argv[2])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    per_mb = 1024 * 1024 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    sys.stdout.write(str(peak / per_mb))


if __name__ == "__main__":
    _main()
