"""Whether what guards the tables is as migrations made it.

Rows that are hidden from the service, swallowed at their insert or let through to be changed leave
no trace in what is signed: only the tables' own definitions tell.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.projection_folds import snapshot
from infra.schema import metadata

GUARD: Final = "events_append_only"
"""The trigger that refuses changes of the log."""
GUARD_SOURCE: Final = """
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('sessiontrail.archiving', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
"""
"""What its function does, as the last migration that touched it says."""

_TABLES = """
SELECT c.relname, c.relkind::text = 'r', c.relrowsecurity,
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
  FROM pg_class c
 WHERE c.oid = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
 ORDER BY c.relname
"""
# Bits of tgtype: 1 for each row, 2 before, 8 delete, 16 update, 32 truncate.
_GUARDED = """
SELECT EXISTS (
  SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
   WHERE t.tgrelid = to_regclass('events') AND t.tgname = %s AND t.tgenabled IN ('O', 'A')
     AND t.tgtype = 2 + 8 + 16 + 32 AND t.tgqual IS NULL
     AND btrim(p.prosrc, E' \\n') = btrim(%s, E' \\n'))
"""
# One that comes before each row may change it, or let it vanish.
_MEDDLING = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE c.oid = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
   AND NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgenabled <> 'D'
 ORDER BY c.relname, t.tgname
"""
# The service may insert some columns only: order and transaction are the database's to say.
_MAY_CHANGE = """
SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(a.grantee) END,
       a.privilege_type
  FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.oid = to_regclass('events') AND a.grantee <> c.relowner
   AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
 ORDER BY 1, 2
"""


async def guard_faults(engine: AsyncEngine) -> list[str]:
    """What of the tables' definitions lets rows be hidden, changed or lost; nothing if all is well.

    Args:
        engine: Any role.

    Raises:
        StoreUnavailableError: The database went away.
    """
    tables = [table.name for table in metadata.sorted_tables]
    found: list[str] = []
    async with snapshot(engine) as reader:
        cursor = await reader.execute(_TABLES, (tables,))
        for name, is_table, has_row_security, has_rules, has_children in await cursor.fetchall():
            if not is_table:
                found.append(f"{name} is no table any more")
            if has_row_security:
                found.append(f"{name} has row security, which may hide rows from the service")
            if has_rules and is_table:
                found.append(f"{name} has a rule, which may do something else than was asked")
            if has_children:
                found.append(f"{name} has tables that inherit from it, whose rows count as its own")
        cursor = await reader.execute(_GUARDED, (GUARD, GUARD_SOURCE))
        if await cursor.fetchone() != (True,):
            found.append(f"the trigger {GUARD} is gone, off or altered: events may be changed")
        cursor = await reader.execute(_MEDDLING, (tables,))
        found += [
            f"{name} has a trigger {trigger} that may change rows or let them vanish"
            for name, trigger in await cursor.fetchall()
        ]
        cursor = await reader.execute(_MAY_CHANGE)
        found += [
            f"{role} has {privilege} on events, which only their owner has"
            for role, privilege in await cursor.fetchall()
        ]
    return found
