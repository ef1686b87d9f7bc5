"""What an analyst sees in the demo: alerts as they arrive over the live stream, in plain words."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

Say = Callable[[str], None]
Alert = dict[str, Any]  # Any: JSON, as the API documents it

_TIMEOUT_S = 60  # the stream says something every 15 seconds


class AlertWatch:
    """Reads ``GET /v1/alerts/stream`` in a thread of its own until the service ends it."""

    def __init__(self, port: int, access_token: str, names: Mapping[str, str], say: Say) -> None:
        """Prepare; nothing is read before ``start``.

        Args:
            port: Of the service.
            access_token: An analyst's.
            names: Of users, by id.
            say: Prints a line.
        """
        self._port = port
        self._access_token = access_token
        self._names = names
        self._say = say
        self._changed = threading.Condition()
        self._listening = False
        self._over = False
        self._thread = threading.Thread(target=self._read, name="demo alerts")
        self.alerts: dict[str, Alert] = {}

    def start(self) -> None:
        """Begin; returns once the stream listens.

        Raises:
            RuntimeError: The service does not let us.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._listening or self._over, _TIMEOUT_S)
            if not self._listening:
                msg = "the stream of alerts does not begin"
                raise RuntimeError(msg)

    def join(self) -> None:
        """Wait until the service has ended the stream."""
        self._thread.join()

    def seen(self, wanted: Callable[[Alert], bool], within_s: float) -> bool:
        """Whether such an alert is there, or comes in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._over or any(map(wanted, self.alerts.values())), within_s
            ) and any(map(wanted, self.alerts.values()))

    def _read(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self._access_token}"}
            connection.request("GET", "/v1/alerts/stream", headers=headers)
            answer = connection.getresponse()
            if answer.status == 200:  # noqa: PLR2004 (OK)
                for fields in _messages(answer):
                    self._take(fields)
        except (OSError, HTTPException, ValueError):
            pass  # the service is gone, and the demo with it
        finally:
            connection.close()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _take(self, fields: Mapping[str, str]) -> None:
        with self._changed:
            self._listening = True
            if fields.get("event") == "alert":
                alert = json.loads(fields["data"])
                before = self.alerts.get(alert["id"])
                self.alerts[alert["id"]] = alert
                self._tell(alert, before)
            self._changed.notify_all()

    def _tell(self, alert: Alert, before: Alert | None) -> None:
        if alert["response"] == "record":
            return  # on record, for who looks for it; nobody is told
        whom = self._names.get(alert["user_id"] or "", "many users")
        if before is None:
            self._say(f"  ! {alert['severity'].upper()}  {alert['rule']}  about {whom}")
            for fact in alert["facts"]:
                if fact["weight"]:
                    text = f": {fact['text']}" if fact["text"] else ""
                    self._say(f"      {fact['weight']:+4}  {fact['code']}{text}")
        elif alert["count"] > before["count"]:
            self._say(f"  ! {alert['rule']} about {whom} again: {alert['count']} in all")
        told = [] if before is None else before["answers"]
        for answer in alert["answers"]:
            if answer not in told:
                self._say(f"      done: {_words_for(answer)}")


def _words_for(answer: Mapping[str, Any]) -> str:
    what, outcome = str(answer["response"]).replace("_", " "), answer["outcome"]
    if outcome == "done":
        return what
    if outcome == "nothing_left":
        return f"{what}: nothing was left to do"
    return f"{what}: held back, since the rule would end too many sessions"


def _messages(lines: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """The messages of a stream of Server-Sent Events, each as its fields."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}
