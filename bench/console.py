"""Every page of the console on a database of a million users and a hundred thousand alerts.

The past that the audit pages look into is a log of its own size, with snapshots and a signed tree.
"""

import asyncio
import re
import statistics
import time
from datetime import datetime, timedelta
from http.client import HTTPConnection
from urllib.parse import urlencode

import psycopg

from bench.audit_replay import make_log
from bench.audit_tree import SIGNER, sequence_all
from bench.dataset import make_history
from bench.environment import PASSWORD, Bench, cause, register_users, service
from bench.figures import Figure
from bench.measures import Say
from domain.events.users import Role
from domain.ids import UserId
from domain.user import ChangeRoles
from infra.postgres import create_engine
from infra.user_commands import PostgresUserCommands

_DATABASE = "console"
_USERS = 1_000_000
_ALERTS = 100_000
_TIMES = 200
_EVENTS = 250_000
_P50_MS, _P99_MS = 25.0, 100.0
_OF_THE_PAST_P50_MS, _OF_THE_PAST_P99_MS = 250.0, 1_000.0
"""Where a page is folded from the log."""
_WARM_UP = 20
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# Rows as the fold leaves them, without the events behind them: pages read rows.
_FILL = f"""
INSERT INTO users (user_id, version, origin, username, roles, registered_at, credential_epoch)
SELECT gen_random_uuid(), 1, 'local', 'somebody-' || n || '@example.com', '{{}}',
       now() - n * interval '1 second', 0
  FROM generate_series(1, {_USERS}) AS n;
INSERT INTO alerts (alert_id, version, subject_id, rule, rule_version, policy_version, severity,
       severity_rank, response, status, family_id, trigger_id, verdict, count, raised_at, first_at,
       last_at, facts, answers, client)
SELECT gen_random_uuid(), 2, u.user_id,
       (ARRAY['device-change', 'risky-sign-in', 'impossible-travel', 'new-asn'])[1 + n % 4], 1, 0,
       (ARRAY['info', 'low', 'medium', 'high', 'critical'])[1 + n % 5], n % 5, 'alert',
       (ARRAY['open', 'acknowledged', 'resolved', 'recorded'])[1 + n % 4], NULL,
       gen_random_uuid(), CASE n % 4 WHEN 2 THEN 'benign' END, 1, now() - n * interval '20 seconds',
       now() - n * interval '20 seconds', now() - n * interval '20 seconds',
       '[{{"code": "new_asn", "weight": 60}}]', '[]',
       '{{"ip": "203.0.113.7", "user_agent": "curl/8.14.1"}}'
  FROM (SELECT user_id, row_number() OVER () AS n FROM users LIMIT {_ALERTS}) AS u;
INSERT INTO activity (began, type, count)
SELECT began, type, 1000
  FROM generate_series(date_bin('15 minutes', now(), '2020-01-01 00:00+00') - interval '30 days',
                       now(), '15 minutes') AS began,
       unnest(ARRAY['SessionStarted', 'RefreshTokenRotated', 'AlertRaised']) AS type
ON CONFLICT DO NOTHING;
UPDATE alerts
   SET family_id = s.family_id, subject_id = s.user_id, severity_rank = 4, severity = 'critical',
       status = 'open', last_at = now()
  FROM (SELECT family_id, user_id FROM sessions LIMIT 1) AS s
 WHERE alert_id = (SELECT alert_id FROM alerts LIMIT 1);
"""  # noqa: S608 (numbers of ours)


def console_figures(on: Bench, say: Say) -> list[Figure]:
    """p50 and p99 of each page, one request after the other on one connection."""
    on.create_database(_DATABASE)
    say(f"making {_USERS:,} users and {_ALERTS:,} alerts")
    users = asyncio.run(make_log(on, _DATABASE, _EVENTS, say))
    asyncio.run(make_history(on, _DATABASE, [500], lambda _length: None))
    (name,) = asyncio.run(_staff(on))
    with psycopg.connect(on.conninfo(_DATABASE, user="postgres"), autocommit=True) as connection:
        for statement in _FILL.split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())
        bounds = connection.execute("SELECT min(occurred_at), max(occurred_at) FROM events")
        first, last = bounds.fetchone() or (None, None)
    say("sequencing the log")
    sequence_all(on, _DATABASE)
    with psycopg.connect(on.conninfo(_DATABASE, user="postgres"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    with service(on, _DATABASE, SESSIONTRAIL_TREE_PUBLIC_KEY=str(SIGNER.verifier)) as running:
        browser = _Browser(running.port)
        figures = [*_figures_of("sign-in", browser, "/console/sign-in")]
        browser.sign_in(name)
        for page, path in browser.pages().items():
            say(f"{page}: {path}")
            figures.extend(_figures_of(page, browser, path))
        for page, path in _pages_of_the_past(first, last, users[len(users) // 2]).items():
            say(f"{page}: {path}")
            bars = (_OF_THE_PAST_P50_MS, _OF_THE_PAST_P99_MS)
            figures.extend(_figures_of(page, browser, path, bars))
    return figures


def _pages_of_the_past(first: datetime, last: datetime, user_id: UserId) -> dict[str, str]:
    """The addresses of pages that are folded from the log, by name."""
    middle = first + (last - first) / 2
    moment = {"as_of": middle.isoformat()}
    between = {"since": middle.isoformat(), "until": (middle + timedelta(hours=1)).isoformat()}
    whose = {"user": user_id}
    return {
        "audit": "/console/audit?" + urlencode(moment),
        "audit, one user": "/console/audit?" + urlencode(moment | whose),
        "audit, an hour's changes": "/console/audit/diff?" + urlencode(between),
        "audit, one user's changes": "/console/audit/diff?" + urlencode(between | whose),
    }


async def _staff(on: Bench) -> list[str]:
    names = await register_users(on, _DATABASE, 1)
    engine = create_engine(on.conninfo(_DATABASE), max_connections=1, wait_s=10)
    users = PostgresUserCommands(engine, on.data_keys)
    found = await users.find_for_sign_in(names[0])
    if found is None:
        msg = "the user that was just registered is not there"
        raise RuntimeError(msg)
    await users.command(found.user.user_id, ChangeRoles(tuple(Role)), cause())
    await engine.dispose()
    return names


def _figures_of(
    page: str, browser: "_Browser", path: str, bars: tuple[float, float] = (_P50_MS, _P99_MS)
) -> list[Figure]:
    for _ in range(_WARM_UP):
        browser.get(path)
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        browser.get(path)
        times.append((time.perf_counter() - began) * 1000)
    p99 = statistics.quantiles(times, n=100)[98]
    return [
        Figure(f"{page} p50", statistics.median(times), "ms", None, bars[0], at_least=False),
        Figure(f"{page} p99", p99, "ms", None, bars[1], at_least=False),
    ]


class _Browser:
    """What a browser sends, on one connection."""

    def __init__(self, port: int) -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Sec-Fetch-Site": "same-origin", "User-Agent": "Firefox"}

    def sign_in(self, username: str) -> None:
        """Sign in by the form, and keep the cookies."""
        body = urlencode({"username": username, "password": PASSWORD})
        self._connection.request("POST", "/console/sign-in", body, self._headers | _FORM)
        answer = self._connection.getresponse()
        answer.read()
        cookies = [each.partition(";")[0] for each in answer.headers.get_all("Set-Cookie") or []]
        self._headers["Cookie"] = "; ".join(cookies)

    def get(self, path: str) -> str:
        """A page.

        Raises:
            RuntimeError: It is another answer.
        """
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            msg = f"{path} was answered with {answer.status}"
            raise RuntimeError(msg)
        return body

    def pages(self) -> dict[str, str]:
        """The addresses of all pages, by name."""
        queue = self.get("/console/alerts")
        links = re.findall(r'href="(/console/alerts/[0-9a-f-]{36})"', queue)
        following = re.search(r'rel="next" href="([^"]+)"', queue)
        worst = self.get(links[0])
        person = re.search(r'href="(/console/people/[0-9a-f-]{36})"', worst)
        if following is None or person is None:
            msg = "the queue has one page, or the alert no user"
            raise RuntimeError(msg)
        return {
            "console queue": "/console/alerts",
            "console queue, next page": following[1].replace("&amp;", "&"),
            "console queue, all of a rule": "/console/alerts?view=all&rule=new-asn",
            "console alert": links[0],
            "console person": person[1],
            "console overview": "/console/overview?range=month",
            "console rules": "/console/rules",
            "console rule": "/console/rules/device-change",
            "account": "/account",
            "console people": "/console/people",
            "revoke an alert's session": links[0] + "/revoke",
            "allow an alert's facts": links[0] + "/allow",
            "revoke a person's sessions": person[1] + "/revoke",
            "audit event": f"/console/audit/events/leaf:{_EVENTS // 2}",
            "audit exports": "/console/audit/exports",
        }
