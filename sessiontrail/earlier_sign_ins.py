"""A file of earlier sign-ins, read twice: to see whose they are, and to teach them.

It need not fit into memory: a batch is resolved, learned from and written, and then forgotten. Of
its users, only who they are is kept.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from detector.loading import loaded, save
from detector.simulation.evidence import Evidence
from detector.simulation.requests import BadLineError, Login, instant_of
from detector.warm_start import keys_to_learn, learn, sign_in_of
from domain.events.envelope import Cause
from domain.events.imports import SignInsImported
from domain.ids import UserId
from domain.texts import InvalidTextError, normalise_subject
from infra.detector_import import Import, importing, known_users, refuse_imported, register_external
from sessiontrail.commands.context import CommandError
from sessiontrail.labelled_keys import crowd_concealment
from sessiontrail.request_files import numbered_requests, opened_requests
from sessiontrail.store import Store

Progress = Callable[[int, int], None]
SignIn = tuple[int, Login]
"""A line's number, and the sign-in that it says."""

_BATCH = 2_000
_USERS_AT_HAND = 100_000
_CHUNK = 1 << 20
_CLOCKS_DISAGREE = timedelta(minutes=5)


class Survey(msgspec.Struct):
    """What a file holds.

    Attributes:
        sha256: Of its bytes.
        lines: How many it has.
        sign_ins: Sign-ins among them.
        bad_lines: Lines that are no requests, or that cannot be learned from.
        registered: Users who were not known.
    """

    sha256: str
    lines: int
    sign_ins: int = 0
    bad_lines: int = 0
    registered: int = 0


class EarlierSignIns:
    """Teaches a file of sign-ins to the detector."""

    def __init__(
        self, store: Store, evidence: Evidence, cause: Cause, path: Path, *, known_only: bool
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            store: The database and its keys.
            evidence: Tells what is known of the clients.
            cause: Who imports.
            path: The file.
            known_only: Whether to pass over users who are not known here.
        """
        self._store = store
        self._evidence = evidence
        self._conceal = crowd_concealment(store.data_keys.masters)
        self._cause = cause
        self._path = path
        self._known_only = known_only
        self._users: dict[str, UserId] = {}
        self._latest = datetime.max.replace(tzinfo=UTC)

    async def survey(self, progress: Progress) -> Survey:
        """Read the file, name its bad lines, and register whom nobody knows.

        Raises:
            AlreadyImportedError: It was imported before.
            CommandError: It cannot be read, or holds no sign-in.
        """
        survey = _measured(self._path)
        now = await refuse_imported(self._store.engine, survey.sha256)
        self._latest = now + _CLOCKS_DISAGREE
        for batch in self._batches(survey):
            await self._resolve(batch)
            if not self._known_only:
                survey.registered += await self._register(batch)
            survey.sign_ins += len(batch)
            progress(batch[-1][0], survey.lines)
        if not survey.sign_ins:
            msg = f"{self._path} holds no sign-in; nothing was imported"
            raise CommandError(msg)
        return survey

    async def teach(self, survey: Survey, progress: Progress) -> SignInsImported:
        """Learn from all of it, or from nothing.

        Raises:
            AlreadyImportedError: It was imported meanwhile.
            CommandError: The file is another one by now.
        """
        learned = done = 0
        seen: set[UserId] = set()
        async with importing(self._store.engine, survey.sha256) as under_way:
            for batch in self._batches(None):
                await self._resolve(batch)
                learned += await self._learn(under_way, batch, seen)
                done += len(batch)
                progress(done, survey.sign_ins)
            if _measured(self._path).sha256 != survey.sha256:
                msg = f"{self._path} changed while it was read; nothing was imported"
                raise CommandError(msg)
            imported = SignInsImported(
                sha256=survey.sha256,
                lines=survey.lines,
                sign_ins=learned,
                users=len(seen),
                registered=survey.registered,
            )
            await under_way.record(imported, self._cause)
        return imported

    def _batches(self, survey: Survey | None) -> Iterator[list[SignIn]]:
        """The sign-ins of the file; with a survey, what is none is named and counted."""
        batch: list[SignIn] = []
        with opened_requests(self._path) as file:
            for number, request in numbered_requests(file):
                fault = _fault_of(request, self._latest)
                if fault is not None:
                    if survey is not None:
                        survey.bad_lines += 1
                        sys.stderr.write(f"line {number}: {fault}\n")
                elif isinstance(request, Login):
                    batch.append((number, request))
                    if len(batch) == _BATCH:
                        yield batch
                        batch = []
        if batch:
            yield batch

    async def _resolve(self, batch: Sequence[SignIn]) -> None:
        """Find out who the users of a batch are here."""
        if len(self._users) > _USERS_AT_HAND:
            self._users.clear()
        names = {login.user for _, login in batch} - self._users.keys()
        if names:
            self._users |= await known_users(self._store.engine, names)

    async def _register(self, batch: Sequence[SignIn]) -> int:
        strangers = dict.fromkeys(login.user for _, login in batch if login.user not in self._users)
        registered = 0
        for name in strangers:
            registered += await register_external(self._store.users, name, self._cause)
        await self._resolve(batch)
        return registered

    async def _learn(
        self, under_way: Import, batch: Sequence[SignIn], seen_users: set[UserId]
    ) -> int:
        sign_ins = []
        for number, login in batch:
            user_id = self._users.get(login.user)
            if user_id is not None:
                sign_ins.append(sign_in_of(login, user_id, number, self._evidence, self._conceal))
                seen_users.add(user_id)
        keys = [key for seen in sign_ins for key in keys_to_learn(seen)]
        memory = await loaded(under_way.states, keys)
        for seen in sign_ins:
            learn(memory, seen)
        await save(under_way.states, memory)
        return len(sign_ins)


def _fault_of(request: object, latest: datetime) -> str | None:
    """Why a line cannot be learned from; None where it can, or is about something else."""
    if isinstance(request, BadLineError):
        return str(request)
    if not isinstance(request, Login):
        return None
    if instant_of(request) > latest:
        return "`at` is yet to come"
    try:
        normalise_subject(request.user)
    except InvalidTextError as error:
        return f"`user`: {error}"
    return None


def _measured(path: Path) -> Survey:
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with opened_requests(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return Survey(digest.hexdigest(), lines + (last != b"\n"))
