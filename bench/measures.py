"""What is measured, one function a group of figures."""

import asyncio
import json
import os
import statistics
from collections.abc import Callable, Sequence

import psycopg

from bench.audit_projections import rebuild_figures
from bench.ceilings import BareStatement, bare_argon2_per_second, copy_seconds
from bench.dataset import make_history
from bench.environment import PASSWORD, Bench, Service, register_users, service, sign_in
from bench.figures import Figure
from bench.load import Load, finish_load, run_load, start_load
from bench.memory import resident_mb

CONCURRENCY = 32
_ROUNDS = 5
_SECONDS = 5
_LOGIN_CLIENTS = 8
_USERS = 64
_LONG_GENERATIONS = 50_000

Say = Callable[[str], None]


def refresh_figures(on: Bench, say: Say) -> list[Figure]:
    """Refresh over HTTP beside the bare statement, turn about, at the same concurrency."""
    bare = BareStatement(on)
    on.create_database("refresh")
    loads: list[Load] = []
    ceilings = []
    with service(on, "refresh") as serving:
        tokens = asyncio.run(sign_in(on, "refresh", CONCURRENCY))
        run_load("refresh", serving.port, 1, tokens)  # warms up; these families are done with
        for each in range(_ROUNDS):
            say(f"refresh, round {each + 1} of {_ROUNDS}")
            ceilings.append(bare.run(CONCURRENCY, _SECONDS))
            tokens = asyncio.run(sign_in(on, "refresh", CONCURRENCY))
            loads.append(run_load("refresh", serving.port, _SECONDS, tokens))
        resident = resident_mb(serving.process.pid)
    ratios = [
        load.per_second / ceiling.per_second for load, ceiling in zip(loads, ceilings, strict=True)
    ]
    at = ratios.index(statistics.median_low(ratios))
    load, ceiling = loads[at], ceilings[at]
    return [
        Figure("refresh", load.per_second, "1/s", ceiling.per_second, 0.35, at_least=True),
        Figure("refresh p50", load.p50_ms, "ms", ceiling.mean_ms, 2.5, at_least=False),
        Figure("refresh p99", load.p99_ms, "ms", ceiling.mean_ms, 8, at_least=False),
        Figure("service resident", resident, "MB", None, 150, at_least=False),
        Figure("bytes an event", _bytes_an_event(on, "refresh"), "B", None, 600, at_least=False),
    ]


def _bytes_an_event(on: Bench, database: str) -> float:
    with psycopg.connect(on.conninfo(database, user="postgres"), autocommit=True) as connection:
        connection.execute("VACUUM")
        row = connection.execute(
            "SELECT pg_total_relation_size('events')::float8 / count(*) FROM events"
        ).fetchone()
    return float(row[0]) if row else 0.0


def refusal_figures(on: Bench, say: Say) -> list[Figure]:
    """Turning forged tokens away beside answering /healthz."""
    on.create_database("refusals")
    with service(on, "refusals") as serving:
        forged = [_forge(token) for token in asyncio.run(sign_in(on, "refusals", CONCURRENCY))]
        pairs = []
        for each in range(_ROUNDS):
            say(f"forged tokens, round {each + 1} of {_ROUNDS}")
            health = run_load("healthz", serving.port, 2, ["-"] * CONCURRENCY)
            refused = run_load("forged", serving.port, 2, forged)
            pairs.append((refused.per_second, health.per_second))
    refused_rate, health_rate = median_pair(pairs)
    return [Figure("forged token refused", refused_rate, "1/s", health_rate, 0.9, at_least=True)]


def _forge(token: str) -> str:
    """The same token with one character of its MAC changed."""
    at = len(token) - 10
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


def median_pair(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The pair with the median ratio."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def login_figures(on: Bench, say: Say) -> list[Figure]:
    """Many users signing in beside bare argon2id, and what that does to refreshes under way."""
    on.create_database("logins")
    bodies = [
        json.dumps({"username": name, "password": PASSWORD, "token_delivery": "body"})
        for name in asyncio.run(register_users(on, "logins", _USERS))
    ]
    cores = os.cpu_count() or 1
    with service(on, "logins") as serving:
        pairs = []
        for each in range(_ROUNDS):
            say(f"sign-in, round {each + 1} of {_ROUNDS}")
            bare = bare_argon2_per_second(cores, _SECONDS)
            load = run_load("login", serving.port, _SECONDS, bodies, _LOGIN_CLIENTS)
            pairs.append((load.per_second, bare))
        alone, beside = [], []
        for each in range(3):
            say(f"refresh beside sign-in, round {each + 1} of 3")
            alone.append(_refresh_p99(on, serving))
            logins = start_load("login", serving.port, _SECONDS + 1, bodies, _LOGIN_CLIENTS)
            beside.append(_refresh_p99(on, serving))
            finish_load(logins)
    rate, bare_rate = median_pair(pairs)
    slowed, quiet = median_pair(list(zip(beside, alone, strict=True)))
    return [
        Figure("sign-in", rate, "1/s", bare_rate, 0.9, at_least=True),
        Figure("refresh p99 beside sign-ins", slowed, "ms", quiet, 3, at_least=False),
    ]


def _refresh_p99(on: Bench, serving: Service) -> float:
    tokens = asyncio.run(sign_in(on, "logins", CONCURRENCY))
    return run_load("refresh", serving.port, _SECONDS, tokens).p99_ms


def history_figures(on: Bench, say: Say) -> list[Figure]:
    """A million events: refreshing at generation 50,000, and rebuilding beside COPY."""
    on.create_database("history")
    made = 0

    def progress(count: int) -> None:
        nonlocal made
        before, made = made, made + count
        if made // 100_000 > before // 100_000:
            say(f"made {made:,} events")

    long_lived = asyncio.run(make_history(on, "history", [_LONG_GENERATIONS] * 16, progress))
    asyncio.run(make_history(on, "history", [100] * 2_000, progress))
    return [
        *_rebuild_figures(on, say),
        *_generation_figures(on, long_lived, say),
    ]


def _generation_figures(on: Bench, long_lived: list[str], say: Say) -> list[Figure]:
    """Generation 50,000 beside generation 1: sixteen connections each, turn about."""
    pairs = []
    with service(on, "history") as serving:
        fresh = asyncio.run(sign_in(on, "history", len(long_lived)))
        run_load("refresh", serving.port, 1, fresh)
        parts = 16 // _ROUNDS
        for each in range(_ROUNDS):
            say(f"generation 50,000, round {each + 1} of {_ROUNDS}")
            old = long_lived[each * parts : (each + 1) * parts]
            new = asyncio.run(sign_in(on, "history", parts))
            young = run_load("refresh", serving.port, 3, new)
            aged = run_load("refresh", serving.port, 3, old)
            pairs.append((aged.per_second, young.per_second))
    aged_rate, young_rate = median_pair(pairs)
    return [
        Figure("refresh at generation 50,000", aged_rate, "1/s", young_rate, 0.95, at_least=True)
    ]


def _rebuild_figures(on: Bench, say: Say) -> list[Figure]:
    conninfo = on.conninfo("history", user="postgres")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    say("reading a million events with COPY")
    copies = [copy_seconds(conninfo, on.folder / "copy.out") for _ in range(3)]
    return rebuild_figures(on, "history", statistics.median(copies), say)
