"""``sessiontrail``: the command line. One line and a non-zero exit for what the user got wrong."""

import logging
import sys
from typing import NoReturn

import typer

from sessiontrail.commands.lazily import lazy_group

_COMMANDS = {
    "serve": "service:serve",
    "migrate": "service:migrate",
    "detect": "detect:detect",
    "sequence": "sequence:sequence",
    "simulate": "simulate:simulate",
    "demo": "demo:demo",
    "import": "imports:import_sign_ins",
    "relay": "relay:relay",
    "kafka": "kafka:app",
    "users": "users:app",
    "sessions": "sessions:app",
    "keys": "keys:app",
    "service-keys": "service_keys:app",
    "alerts": "alerts:app",
    "projections": "projections:app",
    "events": "events:app",
    "audit": "audit:app",
    "rules": "rules:app",
    "world": "world:app",
}

app = typer.Typer(
    cls=lazy_group(_COMMANDS),
    name="sessiontrail",
    help="Event-sourced sessions for multi-device JWT authentication.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def sessiontrail() -> None:
    """What it is says the help above."""


def main() -> None:
    """Run a command; what the user can mend comes out as one line."""
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        raise SystemExit(130) from None
    except typer.TyperException as error:  # a command line that makes no sense
        _refuse(error.format_message(), 2)
    except Exception as error:
        if not isinstance(error, _user_errors()):
            raise
        logging.getLogger(__name__).debug("the error in full", exc_info=error)
        _refuse(str(error), 1)
    else:
        raise SystemExit(status or 0)


def _user_errors() -> tuple[type[Exception], ...]:
    """What the user can mend. Imported now: most commands meet none of it."""
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
    from sessiontrail.commands.context import CommandError
    from sessiontrail.server import AddressTakenError

    return (
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


def _refuse(message: str, status: int) -> NoReturn:
    line = " ".join(message.split())
    sys.stderr.write(f"sessiontrail: {line}\n")
    raise SystemExit(status)
