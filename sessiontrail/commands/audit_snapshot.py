"""``sessiontrail audit snapshot``: a snapshot by hand."""

from infra.snapshot_taking import SnapshotNotTakenError, TakenSnapshot, take_snapshot
from sessiontrail.commands.audit_replay import told_in_a_line
from sessiontrail.commands.context import CommandError, operator_cause, run, say, store
from sessiontrail.commands.progress import progress_bar


def snapshot() -> None:
    """Take a snapshot of every state as it stands, for time travel to go on from."""

    async def work() -> TakenSnapshot | None:
        async with store() as opened:
            with progress_bar("folding") as progress:
                return await take_snapshot(opened.engine, operator_cause(), progress)

    try:
        with told_in_a_line():
            taken = run(work)
    except SnapshotNotTakenError as error:
        raise CommandError(str(error)) from error
    if taken is None:
        say("Nothing happened since the last snapshot.")
        return
    say(
        f"Snapshot {taken.snapshot_id}: {taken.states} states after position"
        f" {taken.place.position}, {taken.packed_bytes} bytes, from {taken.events} events."
    )
