"""``sessiontrail``: the command line. One line and a non-zero exit for what the user got wrong."""

import logging
import sys
from typing import NoReturn

import typer

from domain.as_of import AlteredHistoryError
from domain.ports import ConcurrencyError, StoreUnavailableError
from infra.embedded_postgres import EmbeddedPostgresError
from infra.key_files import KeyRingError
from infra.migrate import MayNotMigrateError
from infra.rate_limits import InvalidRulesError, NoRedisClientError
from infra.sealed_hashes import UnsealedHashesError
from infra.sealing import UnsealError
from infra.settings import SettingsError
from infra.signing_key_set import NoSigningKeyError
from infra.signing_keys import UnknownSigningKeyError
from sessiontrail.commands import (
    alerts,
    audit,
    demo,
    detect,
    erasure,
    events,
    imports,
    kafka,
    keys,
    projections,
    relay,
    rules,
    sequence,
    service,
    service_keys,
    sessions,
    simulate,
    users,
    world,
)
from sessiontrail.commands.context import CommandError
from sessiontrail.server import AddressTakenError

app = typer.Typer(
    name="sessiontrail",
    help="Event-sourced sessions for multi-device JWT authentication.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(service.serve)
app.command("migrate")(service.migrate)
app.command("detect")(detect.detect)
app.command("sequence")(sequence.sequence)
app.command("simulate")(simulate.simulate)
app.command("demo")(demo.demo)
app.command("import")(imports.import_sign_ins)
app.command("relay")(relay.relay)
app.add_typer(kafka.app, name="kafka")
users.app.command("erase")(erasure.erase)
users.app.command("scrub")(erasure.scrub)
app.add_typer(users.app, name="users")
app.add_typer(sessions.app, name="sessions")
app.add_typer(keys.app, name="keys")
app.add_typer(service_keys.app, name="service-keys")
app.add_typer(alerts.app, name="alerts")
app.add_typer(projections.app, name="projections")
app.add_typer(events.app, name="events")
app.add_typer(audit.app, name="audit")
app.add_typer(rules.app, name="rules")
app.add_typer(world.app, name="world")

_USER_ERRORS = (
    CommandError,
    AddressTakenError,
    SettingsError,
    KeyRingError,
    EmbeddedPostgresError,
    StoreUnavailableError,
    ConcurrencyError,
    UnsealError,
    UnsealedHashesError,
    AlteredHistoryError,
    InvalidRulesError,
    NoRedisClientError,
    MayNotMigrateError,
    NoSigningKeyError,
    UnknownSigningKeyError,
)


def main() -> None:
    """Run a command; what the user can mend comes out as one line."""
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        raise SystemExit(130) from None
    except typer.TyperException as error:  # a command line that makes no sense
        _refuse(error.format_message(), 2)
    except _USER_ERRORS as error:
        logging.getLogger(__name__).debug("the error in full", exc_info=error)
        _refuse(str(error), 1)
    else:
        raise SystemExit(status or 0)


def _refuse(message: str, status: int) -> NoReturn:
    line = " ".join(message.split())
    sys.stderr.write(f"sessiontrail: {line}\n")
    raise SystemExit(status)
