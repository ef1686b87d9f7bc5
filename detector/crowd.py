"""The crowd: what many users' sign-ins and failures say together, and what they say of one sign-in.

Every sign-in, every count of failures and every finding about a user passes here first, in the
log's order and through one owner at a time, so that the counts do not depend on how many workers
there are.
"""

import msgspec
from msgspec.structs import replace

from detector.bursts import SPRAYING, STUFFING, is_spraying
from detector.crowd_context import CrowdContext
from detector.crowd_states import DAY_S, AccountState, OriginState, SourceState, SprayState
from detector.familiar import count_of, counted, with_seen
from detector.features import TOTAL, FeatureCounts, FeatureState, features_of
from detector.memory import Key, Memory, Scope
from detector.observations import Failures, Kind, Observation
from detector.sliding import PART_S, PARTS, added
from detector.tries import Tries, made_good, with_hidden, with_tries

ORIGIN_WINDOW_S = DAY_S
_ACCOUNTS_OF_A_SOURCE = 64
_SOURCES_OF_AN_ACCOUNT = 16
_ACCOUNTS_OF_A_SPRAY = 128
_SOURCES_OF_A_SPRAY = 64
_ORIGIN_USERS = 16
_VISITORS = 16
_HOMES = 8
_TRIES_OF_A_SOURCE = 10
"""Of one source, a spray takes in so many: who does more alone is stuffing, which has its rule."""
_MERGED_SOURCES = 5
"""Failures that are counted for all remaining sources together come from many."""
_PAST_KEPT = 0.95
_LEARNED_AT_LEAST = 25.0
_HOUR_S = 3600.0
_SPRAY: Key = (Scope.SPRAY, "")
_TOTAL: Key = (Scope.FEATURE, TOTAL)


class CrowdSighting(msgspec.Struct, frozen=True):
    """What crowd rules judge: an observation, and the counts that it is part of already.

    Attributes:
        seen: The observation.
        source: Failures from its network.
        accounts: Failures on the accounts that it names, by account.
        spray: Failures from everywhere.
        origin: Users with findings from its network and device.
        sign_ins: Sign-ins of all users in the hour that failures are counted over.
    """

    seen: Observation
    source: SourceState | None = None
    accounts: tuple[tuple[str, AccountState], ...] = ()
    spray: SprayState | None = None
    origin: OriginState | None = None
    sign_ins: int = 0


def crowd_keys(seen: Observation) -> list[Key]:
    """The states that the crowd needs to take an observation in."""
    keys: list[Key] = []
    match seen.kind:
        case Kind.SIGN_IN:
            keys.extend((Scope.FEATURE, key) for key in features_of(seen).keys)
            keys.extend((_TOTAL, _SPRAY, _source_key(seen.names.network)))
            keys.append((Scope.ACCOUNT, str(seen.user_id)))
        case Kind.SIGN_IN_FAILURES if seen.failures is not None:
            keys.extend((_TOTAL, _SPRAY))
            if seen.failures.source is not None:
                keys.append(_source_key(seen.failures.source))
            keys.extend((Scope.ACCOUNT, account) for account, _ in seen.failures.accounts)
        case Kind.FOUND:
            keys.append((Scope.ORIGIN, origin_key(seen)))
            keys.append(_source_key(seen.names.network))
        case _:
            pass
    return keys


def origin_key(seen: Observation) -> str:
    """A network and a device: the device cookie where there is one, else the signature."""
    return seen.names.origin


def take_in(memory: Memory, seen: Observation) -> tuple[CrowdContext | None, CrowdSighting | None]:
    """Count an observation.

    Args:
        memory: Holds the states of ``crowd_keys(seen)``.
        seen: The observation.

    Returns:
        For a sign-in, what the counts said of it before; for what crowd rules judge, the counts
        after.
    """
    match seen.kind:
        case Kind.SIGN_IN:
            return _sign_in(memory, seen), None
        case Kind.SIGN_IN_FAILURES if seen.failures is not None:
            return None, _failures(memory, seen, seen.failures)
        case Kind.FOUND:
            return None, _found(memory, seen)
        case _:
            return None, None


def _source_key(source: str | None) -> Key:
    return (Scope.SOURCE, source or "?")


# ----------------------------------------------------------------------------------- sign-ins


def _sign_in(memory: Memory, seen: Observation) -> CrowdContext:
    user, now, prefix = str(seen.user_id), seen.second, seen.names.network
    source_key, account_key = _source_key(prefix), (Scope.ACCOUNT, user)
    source = memory.get(source_key, SourceState) or SourceState()
    account = memory.get(account_key, AccountState) or AccountState()
    spray = memory.get(_SPRAY, SprayState) or SprayState()
    counts = _count_features(memory, seen, is_first=not account.homes)
    context = CrowdContext(
        counts,
        account_failures=account.recent(now),
        tried_from_here=count_of(account.sources, prefix or "?") > 0,
        is_home=account.is_home(prefix or "?", now),
        source_failures=source.tries.total(now),
        source_accounts=source.tries.accounts(now, STUFFING["max_each"]),
        source_users=source.users(now),
        is_sprayed_from=spray.sources.of(prefix or "?", now) > 0
        and is_spraying(spray, spray.sign_ins(counts.total), now, SPRAYING),
        user_id=seen.user_id,
    )
    homes = with_seen(account.homes, prefix or "?", now, _HOMES)
    if homes is not account.homes:
        memory.put(account_key, replace(account, homes=homes))
    memory.put(source_key, _visited(source, user, now))
    accounts = made_good(spray.accounts, user)
    if accounts is not spray.accounts:
        memory.put(_SPRAY, replace(spray, accounts=accounts))
    return context


def _visited(source: SourceState, user: str, now: float) -> SourceState:
    tries = made_good(source.tries, user)
    today = int(now // DAY_S)
    is_same_day = bool(source.days) and source.days[0][0] >= today
    if is_same_day and user in source.visitors:
        return source if tries is source.tries else replace(source, tries=tries)
    days = source.days
    days = ((days[0][0], days[0][1] + 1), *days[1:]) if is_same_day else ((today, 1), *days[:1])
    others = [each for each in source.visitors if each != user] if is_same_day else []
    return SourceState(tries, (user, *others[: _VISITORS - 1]), days)


def _count_features(memory: Memory, seen: Observation, *, is_first: bool) -> FeatureCounts:
    features = features_of(seen)
    total = memory.get(_TOTAL, FeatureState) or _NEVER_SEEN
    memory.put(_TOTAL, FeatureState(total.count + 1, total.children + is_first))
    address = _count_chain(memory, features.address)
    agent = _count_chain(memory, features.agent)
    return FeatureCounts(features, total.count, total.children, address, agent)


_NEVER_SEEN = FeatureState()


def _count_chain(memory: Memory, chain: tuple[str, ...]) -> tuple[FeatureState, ...]:
    states: list[FeatureState] = []
    for level, value in enumerate(chain):
        key: Key = (Scope.FEATURE, value)
        before = memory.get(key, FeatureState) or _NEVER_SEEN
        has_new_child = level == 1 and states[0].count == 0
        memory.put(key, FeatureState(before.count + 1, before.children + has_new_child))
        states.append(before)
    return tuple(states)


# ----------------------------------------------------------------------------------- failures


def _failures(memory: Memory, seen: Observation, failures: Failures) -> CrowdSighting:
    now, source = seen.second, failures.source
    accounts, strange = [], []
    for user_id, count in failures.accounts:
        key: Key = (Scope.ACCOUNT, user_id)
        account = memory.get(key, AccountState) or AccountState()
        if source is None or not account.is_home(source, now):
            account = _account_failed(account, source or "?", count, now)
            memory.put(key, account)
            accounts.append((str(user_id), account))
            strange.append((str(user_id), count))
    named = sum(count for _, count in failures.accounts)
    state = _source_failed(memory, failures, strange, failures.total - named, now)
    spray, sign_ins = _sprayed(memory, failures, strange, failures.total - named, now)
    return CrowdSighting(seen, state, tuple(accounts), spray, sign_ins=sign_ins)


def _account_failed(account: AccountState, source: str, count: int, now: float) -> AccountState:
    sources = account.sources if account.recent(now) else ()
    return AccountState(
        added(account.failures, now, count),
        counted(sources, source, count, _SOURCES_OF_AN_ACCOUNT),
        account.homes,
    )


def _source_failed(
    memory: Memory, failures: Failures, strange: list[tuple[str, int]], hidden: int, now: float
) -> SourceState | None:
    if failures.source is None:
        return None  # of several sources, nothing can be said of one
    key = _source_key(failures.source)
    source = memory.get(key, SourceState) or SourceState()
    tries = source.tries
    for account, count in strange:
        tries = with_tries(tries, account, count, now, _ACCOUNTS_OF_A_SOURCE)
    tries = with_hidden(tries, hidden, failures.unknown, failures.others, now)
    if tries is not source.tries:
        source = replace(source, tries=tries)
        memory.put(key, source)
    return source


def _sprayed(
    memory: Memory, failures: Failures, strange: list[tuple[str, int]], hidden: int, now: float
) -> tuple[SprayState, int]:
    so_far = (memory.get(_TOTAL, FeatureState) or _NEVER_SEEN).count
    spray = memory.get(_SPRAY, SprayState) or SprayState(hour=int(now // _HOUR_S))
    count = hidden + sum(count for _, count in strange)
    if not count:
        return spray, spray.sign_ins(so_far)
    spray = _marked(_past_learned(spray, so_far, now), so_far, now)
    accounts, sources = spray.accounts, spray.sources
    if failures.source is None:
        room = count
        sources = with_hidden(sources, count, 0, _MERGED_SOURCES, now)
    else:
        before = sources.of(failures.source, now)
        room = max(0, _TRIES_OF_A_SOURCE - before)
        sources = with_tries(sources, failures.source, count, now, _SOURCES_OF_A_SPRAY)
    for account, each in strange:
        if room > 0:
            accounts = with_tries(accounts, account, min(each, room), now, _ACCOUNTS_OF_A_SPRAY)
            room -= each
    if hidden and room > 0:
        accounts = _hidden_within(accounts, failures, hidden, room, now)
    spray = replace(spray, accounts=accounts, sources=sources)
    memory.put(_SPRAY, spray)
    return spray, spray.sign_ins(so_far)


def _hidden_within(
    accounts: Tries, failures: Failures, hidden: int, room: int, now: float
) -> Tries:
    known = min(failures.others, room)
    return with_hidden(accounts, min(hidden, room), min(failures.unknown, room - known), known, now)


def _marked(spray: SprayState, so_far: int, now: float) -> SprayState:
    part = int(now // PART_S)
    if spray.marks and spray.marks[0][0] >= part:
        return spray
    kept = tuple(mark for mark in spray.marks if mark[0] > part - PARTS)
    return replace(spray, marks=((part, so_far), *kept))


def _past_learned(spray: SprayState, so_far: int, now: float) -> SprayState:
    """At the turn of an hour, learn how many failures go with how many sign-ins.

    An attack is not learned from: of what is far beyond expectation, only a part counts.
    """
    hour = int(now // _HOUR_S)
    if hour <= spray.hour:
        return spray
    kept = _PAST_KEPT ** min(hour - spray.hour, 1000)
    before = spray.hour * _HOUR_S + _HOUR_S
    sign_ins = spray.sign_ins(so_far)
    usual = max(_LEARNED_AT_LEAST, 2 * spray.expected(sign_ins))
    failures = min(float(spray.accounts.total(before)), usual) if spray.marks else 0.0
    return replace(
        spray,
        hour=hour,
        past_failures=(spray.past_failures + failures) * kept,
        past_sign_ins=(spray.past_sign_ins + sign_ins) * kept,
    )


# ------------------------------------------------------------------------------------ findings


def _found(memory: Memory, seen: Observation) -> CrowdSighting:
    key: Key = (Scope.ORIGIN, origin_key(seen))
    origin = memory.get(key, OriginState) or OriginState()
    others = tuple(
        (user, second)
        for user, second in origin.users
        if user != seen.user_id and seen.second - second < ORIGIN_WINDOW_S
    )
    users = ((str(seen.user_id), seen.second), *others[: _ORIGIN_USERS - 1])
    origin = OriginState(users)
    memory.put(key, origin)
    source = memory.get(_source_key(seen.names.network), SourceState)
    return CrowdSighting(seen, source, origin=origin)


__all__ = ["CrowdContext", "CrowdSighting", "crowd_keys", "origin_key", "take_in"]
