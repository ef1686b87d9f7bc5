"""``sessiontrail import``: earlier sign-ins, kept elsewhere, taught to the detector."""

from pathlib import Path
from typing import Annotated

import typer

from domain.events.imports import SignInsImported
from infra.detector_import import AlreadyImportedError
from infra.settings import load_settings
from sessiontrail.commands.context import CommandError, operator_cause, run, say, store
from sessiontrail.commands.progress import progress_bar
from sessiontrail.earlier_sign_ins import EarlierSignIns, Survey
from sessiontrail.evidence import evidence_of_files


def import_sign_ins(
    file: Annotated[
        Path, typer.Argument(help="Sign-ins as JSON Lines, in time order, as simulate reads them")
    ],
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Pass over users who are not known here")
    ] = False,
) -> None:
    """Teach the detector earlier sign-ins, so that it knows your users from the first day."""
    if not file.is_file():
        msg = f"{file} is no file; it is read twice, so it cannot be a pipe"
        raise CommandError(msg)

    async def work() -> tuple[Survey, SignInsImported]:
        async with store() as opened:
            evidence = evidence_of_files(load_settings())
            earlier = EarlierSignIns(
                opened, evidence, operator_cause(), file, known_only=known_only
            )
            with progress_bar("reading") as progress:
                survey = await earlier.survey(progress)
            with progress_bar("learning") as progress:
                return survey, await earlier.teach(survey, progress)

    try:
        survey, imported = run(work)
    except AlreadyImportedError as error:
        raise CommandError(str(error)) from error
    say(
        f"Learned from {imported.sign_ins:,} sign-ins of {imported.users:,} users, "
        f"{imported.registered:,} of them new here."
    )
    if survey.bad_lines:
        msg = f"{survey.bad_lines:,} lines could not be read; the rest was imported"
        raise CommandError(msg)
