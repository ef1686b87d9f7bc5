"""The crowd: what many users' sign-ins and failures say together, and what they say of one sign-in.

Every sign-in, every count of failures and every finding about a user passes here first, in the
log's order and through one owner at a time, so that the counts do not depend on how many workers
there are.
"""

import msgspec
from msgspec.structs import replace

from detector.crowd_states import AccountState, OriginState, SourceState, SprayState
from detector.familiar import counted, find, knows, with_seen
from detector.features import TOTAL, FeatureCounts, Features, FeatureState, features_of
from detector.memory import Key, Memory, Scope
from detector.observations import Failures, Kind, Observation

WINDOW_S = 900.0
"""Failures are counted over a quarter of an hour that begins with the first."""
ACCOUNT_WINDOW_S = 3600.0
ORIGIN_WINDOW_S = 86400.0
_ACCOUNTS_OF_A_SOURCE = 64
_SOURCES_OF_AN_ACCOUNT = 16
_SPRAY_KEYS = 256
_ORIGIN_USERS = 16
_HOMES = 4
_BASELINE_MEMORY = 0.9
_SPRAY: Key = (Scope.SPRAY, "")


class CrowdContext(msgspec.Struct, frozen=True):
    """What the crowd's counts say of one sign-in.

    Attributes:
        counts: Of its features, for the risk score.
        account: Failures on the account before it.
        source: Failures from its network before it.
    """

    counts: FeatureCounts
    account: AccountState
    source: SourceState


class CrowdSighting(msgspec.Struct, frozen=True):
    """What crowd rules judge: an observation, and the counts that it is part of already.

    Attributes:
        seen: The observation.
        source: Failures from its network.
        accounts: Failures on the accounts that it names, by account.
        spray: Failures from everywhere.
        origin: Users with findings from its network and device.
    """

    seen: Observation
    source: SourceState | None = None
    accounts: tuple[tuple[str, AccountState], ...] = ()
    spray: SprayState | None = None
    origin: OriginState | None = None


def crowd_keys(seen: Observation) -> list[Key]:
    """The states that the crowd needs to take an observation in."""
    keys: list[Key] = []
    match seen.kind:
        case Kind.SIGN_IN:
            keys.extend((Scope.FEATURE, key) for key in (TOTAL, *features_of(seen).keys))
            keys.append((Scope.ACCOUNT, str(seen.user_id)))
            keys.append((Scope.SOURCE, seen.network.prefix or "?"))
        case Kind.SIGN_IN_FAILURES if seen.failures is not None:
            keys.append(_SPRAY)
            keys.append((Scope.SOURCE, seen.failures.source or "?"))
            keys.extend((Scope.ACCOUNT, account) for account, _ in seen.failures.accounts)
        case Kind.FOUND:
            keys.append((Scope.ORIGIN, origin_key(seen)))
        case _:
            pass
    return keys


def origin_key(seen: Observation) -> str:
    """A network and a device: the device cookie where there is one, else the signature."""
    return f"{seen.network.prefix}|{seen.client.device_key or seen.device.signature}"


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
            return _sign_in(memory, seen)
        case Kind.SIGN_IN_FAILURES if seen.failures is not None:
            return None, _failures(memory, seen, seen.failures)
        case Kind.FOUND:
            return None, _found(memory, seen)
        case _:
            return None, None


# ----------------------------------------------------------------------------------- sign-ins


def _sign_in(memory: Memory, seen: Observation) -> tuple[CrowdContext, CrowdSighting]:
    source_key: Key = (Scope.SOURCE, seen.network.prefix or "?")
    account_key: Key = (Scope.ACCOUNT, str(seen.user_id))
    source = _recent_source(memory.get(source_key, SourceState), seen.second)
    account = _recent_account(memory.get(account_key, AccountState), seen.second)
    context = CrowdContext(
        _count_features(memory, seen, is_first=not account.homes), account, source
    )
    homes = with_seen(account.homes, seen.network.prefix, seen.second, _HOMES)
    if homes is not account.homes:
        memory.put(account_key, replace(account, homes=homes))
    if source.failures:
        successes = counted(source.successes, str(seen.user_id), 1, _ACCOUNTS_OF_A_SOURCE)
        source = replace(source, successes=successes)
        memory.put(source_key, source)
    return context, CrowdSighting(seen, source, ((str(seen.user_id), account),))


def _count_features(memory: Memory, seen: Observation, *, is_first: bool) -> FeatureCounts:
    features = features_of(seen)
    total = memory.get((Scope.FEATURE, TOTAL), FeatureState) or FeatureState()
    counts = FeatureCounts(
        features,
        total.count,
        total.children,
        tuple(_feature(memory, key) for key in features.address),
        tuple(_feature(memory, key) for key in features.agent),
    )
    _count_chain(memory, features.address)
    _count_chain(memory, features.agent)
    memory.put((Scope.FEATURE, TOTAL), FeatureState(total.count + 1, total.children + is_first))
    return counts


def _feature(memory: Memory, key: str) -> FeatureState:
    return memory.get((Scope.FEATURE, key), FeatureState) or FeatureState()


def _count_chain(memory: Memory, chain: tuple[str, ...]) -> None:
    child_is_new = False
    for key in chain:
        before = _feature(memory, key)
        after = FeatureState(before.count + 1, before.children + child_is_new)
        memory.put((Scope.FEATURE, key), after)
        child_is_new = before.count == 0


# ----------------------------------------------------------------------------------- failures


def _failures(memory: Memory, seen: Observation, failures: Failures) -> CrowdSighting:
    source_key: Key = (Scope.SOURCE, failures.source or "?")
    source = _recent_source(memory.get(source_key, SourceState), seen.second)
    tried = source.accounts
    strange = failures.unknown + failures.others
    accounts = []
    for user_id, count in failures.accounts:
        tried = counted(tried, user_id, count, _ACCOUNTS_OF_A_SOURCE)
        account = _account_failed(memory, seen, user_id, failures.source, count)
        accounts.append((str(user_id), account))
        if failures.source is None or not knows(account.homes, failures.source):
            strange += count
    source = replace(
        source,
        last=seen.second,
        failures=source.failures + failures.total,
        accounts=tried,
        others=source.others + failures.others + failures.unknown,
    )
    memory.put(source_key, source)
    spray = _spray(memory, seen, failures, strange)
    return CrowdSighting(seen, source, tuple(accounts), spray)


def _account_failed(
    memory: Memory, seen: Observation, user_id: str, source: str | None, count: int
) -> AccountState:
    key: Key = (Scope.ACCOUNT, user_id)
    account = _recent_account(memory.get(key, AccountState), seen.second)
    if source is not None and find(account.homes, source) is not None:
        return account  # the owner mistypes at home
    account = replace(
        account,
        last=seen.second,
        failures=account.failures + count,
        sources=counted(account.sources, source or "?", count, _SOURCES_OF_AN_ACCOUNT),
    )
    memory.put(key, account)
    return account


def _spray(memory: Memory, seen: Observation, failures: Failures, strange: int) -> SprayState:
    spray = memory.get(_SPRAY, SprayState) or SprayState(since=seen.second)
    passed = int((seen.second - spray.since) // WINDOW_S)
    if passed:
        kept = _BASELINE_MEMORY**passed
        baseline = spray.baseline * kept + spray.failures * (1 - _BASELINE_MEMORY)
        spray = SprayState(since=spray.since + passed * WINDOW_S, baseline=baseline)
    if strange:
        accounts = spray.accounts
        for user_id, count in failures.accounts:
            accounts = counted(accounts, user_id, count, _SPRAY_KEYS)
        spray = replace(
            spray,
            last=seen.second,
            failures=spray.failures + strange,
            sources=counted(spray.sources, failures.source or "?", strange, _SPRAY_KEYS),
            accounts=accounts,
        )
        memory.put(_SPRAY, spray)
    return spray


def _recent_source(state: SourceState | None, now: float) -> SourceState:
    if state is None or now - state.since >= WINDOW_S:
        return SourceState(since=now)
    return state


def _recent_account(state: AccountState | None, now: float) -> AccountState:
    if state is None:
        return AccountState(since=now)
    if now - state.since >= ACCOUNT_WINDOW_S:
        return AccountState(since=now, homes=state.homes)
    return state


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
    return CrowdSighting(seen, origin=origin)


__all__ = ["CrowdContext", "CrowdSighting", "Features", "crowd_keys", "origin_key", "take_in"]
