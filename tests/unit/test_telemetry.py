"""Logs, the access log and metrics: one JSON object a line, no secret in any, bounded labels."""

import io
import logging
import os
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.telemetry import (
    AccessLog,
    JsonFormatter,
    Metrics,
    Telemetry,
    configure_logging,
    correlation_id,
    redact,
)

REFRESH_TOKEN = "str_AQABqrvM3e7_ABEiM0RVZneImaq7zN3u_w"
SERVICE_KEY = "stk_0123456789abcdef_ABEiM0RVZneImaq7zN3u_wABEiM0RVZneImaq7zN3u"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
CORRELATION = "01890000-0000-7000-8000-000000000000"

log = logging.getLogger("sessiontrail.test")


class Lines(io.StringIO):
    """Where log lines go, and what they were."""

    def all(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.getvalue().splitlines()]

    def only(self) -> dict[str, object]:
        (line,) = self.all()
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logging configured as the service does, put back as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    stream = Lines()
    configure_logging("INFO", stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


# ---------------------------------------------------------------------------------- JSON logs


def test_a_line_is_one_json_object_with_time_level_logger_and_message(lines: Lines) -> None:
    before = datetime.now(UTC)

    log.warning("sweep ended %d families\nin %s", 3, "batches")

    line = lines.only()
    assert set(line) == {"ts", "level", "logger", "message"}
    assert line["level"] == "warning"
    assert line["logger"] == "sessiontrail.test"
    assert line["message"] == "sweep ended 3 families\nin batches"
    written = str(line["ts"])
    assert written.endswith("Z")
    assert len(written) == len("2026-01-02T03:04:05.678Z")
    assert abs((datetime.fromisoformat(written) - before).total_seconds()) < 60


def test_a_line_carries_the_correlation_id_of_its_task(lines: Lines) -> None:
    token = correlation_id.set(CORRELATION)

    log.info("inside")
    correlation_id.reset(token)
    log.info("outside")

    assert [line.get("correlation_id") for line in lines.all()] == [CORRELATION, None]


def test_extra_fields_stand_beside_the_message_and_cannot_replace_it(lines: Lines) -> None:
    log.info("done", extra={"count": 3, "nested": {"list": [1, "a"], "flag": True}, "ts": "mine"})

    line = lines.only()
    assert line["count"] == 3
    assert line["nested"] == {"list": [1, "a"], "flag": True}
    assert line["ts"] != "mine"


def test_an_exception_comes_with_its_trace_and_its_causes(lines: Lines) -> None:
    def fail() -> None:
        try:
            int("inner")
        except ValueError as error:
            raise RuntimeError("outer") from error

    try:
        fail()
    except RuntimeError:
        log.exception("failed")

    text = str(lines.only()["exception"])
    assert "ValueError: invalid literal" in text
    assert text.endswith("RuntimeError: outer")
    assert "test_telemetry.py" in text


@pytest.mark.parametrize(
    "value",
    [2**70, float("nan"), b"bytes", "\ud800", {1: {2, 3}}, object(), None],
    ids=["huge", "nan", "bytes", "surrogate", "map", "object", "none"],
)
def test_whatever_is_logged_the_line_is_not_lost(value: object) -> None:
    record = logging.makeLogRecord({"msg": "value %s", "args": (value,), "value": value})

    line = orjson.loads(JsonFormatter().format(record))

    assert line["message"].startswith("value ")
    assert "value" in line


def test_arguments_that_do_not_fit_the_message_do_not_cost_the_line() -> None:
    record = logging.makeLogRecord({"msg": "%d families of %s", "args": ("three",)})

    line = orjson.loads(JsonFormatter().format(record))

    assert line["message"] == "%d families of %s (its arguments do not fit it)"


def test_levels_below_the_one_asked_for_are_not_written(lines: Lines) -> None:
    log.debug("too detailed")

    assert lines.all() == []


def test_configuring_twice_does_not_write_twice(lines: Lines) -> None:
    configure_logging("INFO", lines)

    log.info("once")

    assert len(lines.all()) == 1


def test_pythons_warnings_are_lines_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("an old way", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)

    assert "an old way" in str(lines.only()["message"])


# ---------------------------------------------------------------------------------- redaction


@pytest.mark.parametrize(
    "secret",
    [
        REFRESH_TOKEN,
        SERVICE_KEY,
        JWT,
        f"Cookie: __Host-session={REFRESH_TOKEN}; theme=dark",
        f"\\n{REFRESH_TOKEN}",
        f"[{REFRESH_TOKEN[:24]}",
        f"{JWT[:45]}...",
    ],
)
def test_what_looks_like_a_token_never_reaches_a_line(lines: Lines, secret: str) -> None:
    try:
        raise ValueError(f"cannot read {secret}")  # noqa: TRY301
    except ValueError:
        log.exception("refused %s", secret, extra={"sent": secret, "headers": [{"x": secret}]})

    written = lines.getvalue()
    assert written.count("[redacted]") >= 4
    assert "AQABqrvM3e7" not in written
    assert "0123456789abcdef" not in written
    assert "eyJ" not in written


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "Password: hunter2",
        '{"password": "hunter2", "x": 1}',
        "{'new_password': 'hunter2'}",
        "RegisterUser(password_hash='hunter2', x=1)",
        'password="say \\"hunter2\\" now"',
        "client_secret=hunter2&grant_type=refresh_token",
        "Authorization: Basic hunter2",
        "authorization=Bearer hunter2",
        "Set-Cookie: a=hunter2; Path=/",
        "(b'authorization', b'Negotiate hunter2')",
        "[type=string, input_value={'password': 'hunter2'}, input_type=dict]",
        'access_token : "hunter2"',
    ],
)
def test_the_value_of_what_is_named_like_a_secret_is_taken_out(text: str) -> None:
    redacted = redact(f"before {text} after")

    assert "hunter2" not in redacted
    assert "[redacted]" in redacted
    assert redacted.startswith("before ")


@pytest.mark.parametrize("name", ["password", "refresh_token", "client_secret", "Authorization"])
def test_a_field_named_like_a_secret_is_taken_out_at_any_depth(lines: Lines, name: str) -> None:
    log.info("sent", extra={name: "hunter2", "body": {"inner": [{name: ["hunter2", 2]}]}})

    line = lines.only()
    assert line[name] == "[redacted]"
    assert line["body"] == {"inner": [{name: "[redacted]"}]}


@pytest.mark.parametrize(
    "text",
    [
        "str_replace is a function",
        "the token has expired",
        "wrong password, try again",
        "eyJ is how they begin",
        "families.sweep ended 3 of 10",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_source_lines_of_a_trace_stay_readable_though_they_name_secrets(lines: Lines) -> None:
    def parse(token: str) -> None:
        raise ValueError("token=hunter2")

    try:
        parse(token="hunter2")
    except ValueError:
        log.exception("failed")

    text = str(lines.only()["exception"])
    assert 'parse(token="hunter2")' in text  # the code's own text, not a value
    assert text.endswith("ValueError: token=[redacted]")


@pytest.mark.parametrize(
    "piece",
    ["a", "token", "token=", 'token="', "cookie: ", "str_", "eyJ", "eyJ.", "password'", "\\"],
)
def test_no_text_makes_redaction_slow_or_a_line_long(piece: str) -> None:
    text = piece * (2_000_000 // len(piece))

    began = time.process_time()
    redacted = redact(text)
    took = time.process_time() - began

    assert len(redacted) < 100_000
    assert took < 5  # a pattern that backtracks would take hours


# --------------------------------------------------------------------------------- access log


def test_a_request_is_one_line_of_the_access_log() -> None:
    stream = io.BytesIO()
    access = AccessLog(stream)

    access.write("GET", "/v1/sessions/{sid}", 200, 1234, CORRELATION)
    access.write("POST", "/v1/login", 401, 30_000, CORRELATION, "203.0.113.0/24")

    first, second = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    written = first.pop("ts")
    assert first == {
        "level": "info",
        "logger": "access",
        "method": "GET",
        "route": "/v1/sessions/{sid}",
        "status": 200,
        "duration_us": 1234,
        "correlation_id": CORRELATION,
    }
    assert len(written) == len("2026-01-02T03:04:05.678Z")
    assert abs((datetime.fromisoformat(written) - datetime.now(UTC)).total_seconds()) < 60
    assert second["client_network"] == "203.0.113.0/24"


def test_a_method_that_a_client_made_up_is_not_written() -> None:
    stream = io.BytesIO()

    AccessLog(stream).write(REFRESH_TOKEN, "unmatched", 405, 1, CORRELATION)

    assert orjson.loads(stream.getvalue())["method"] == "OTHER"


def test_nothing_reaches_the_system_before_a_flush_and_everything_after() -> None:
    raw = io.BytesIO()
    access = AccessLog(io.BufferedWriter(raw))

    access.write("GET", "/healthz", 200, 1, CORRELATION)
    before = raw.getvalue()
    access.flush()

    assert before == b""
    assert raw.getvalue().endswith(b"}\n")


def test_a_stream_that_takes_nothing_costs_the_line_not_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as broken:
        access = AccessLog(broken)

        access.write("GET", "/healthz", 200, 1, CORRELATION)
        access.write("GET", "/healthz", 200, 1, CORRELATION)
        access.flush()
        access.flush()

    lost = [record for record in caplog.records if "were lost" in record.message]
    assert [getattr(record, "lines", None) for record in lost] == [2]


# ------------------------------------------------------------------------------------ metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, _ = metrics.render()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"sessiontrail_{name}", frozenset(labels.items())))


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()

    for status in (200, 200, 401):
        metrics.http_request("POST", "/v1/refresh", status, 0.002)

    found = {
        status: value(
            metrics, "http_requests_total", route="/v1/refresh", method="POST", status=status
        )
        for status in ("200", "401")
    }
    assert found == {"200": 2, "401": 1}


def test_durations_are_a_cumulative_histogram_by_route() -> None:
    metrics = Metrics()
    name = "http_request_duration_seconds"

    for seconds in (0.0005, 0.001, 0.002, 60.0):
        metrics.http_request("GET", "/healthz", 200, seconds)

    def bucket(bound: str) -> float | None:
        return value(metrics, f"{name}_bucket", route="/healthz", le=bound)

    assert [bucket(bound) for bound in ("0.001", "0.0025", "2.5", "+Inf")] == [2, 3, 3, 4]
    assert value(metrics, f"{name}_count", route="/healthz") == 4
    assert value(metrics, f"{name}_sum", route="/healthz") == pytest.approx(60.0035)


def test_methods_that_clients_make_up_share_one_label() -> None:
    metrics = Metrics()

    for number in range(1_000):
        metrics.http_request(f"M{number}", "unmatched", 405, 0.001)

    assert (
        value(metrics, "http_requests_total", route="unmatched", method="OTHER", status="405")
        == 1_000
    )
    assert sum(name == "sessiontrail_http_requests_total" for name, _ in samples(metrics)) == 1


def test_every_other_metric_counts_what_its_name_says() -> None:
    metrics = Metrics()

    metrics.refresh("rotated")
    metrics.refresh("rotated")
    metrics.login("refused")
    metrics.swept(5)
    metrics.rate_limited("login_per_network")
    metrics.rate_limiter_degraded()

    assert value(metrics, "refreshes_total", outcome="rotated") == 2
    assert value(metrics, "logins_total", outcome="refused") == 1
    assert value(metrics, "families_swept_total") == 5
    assert value(metrics, "rate_limited_total", limit="login_per_network") == 1
    assert value(metrics, "rate_limiter_degraded_total") == 1


def test_two_services_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()

    one.rate_limiter_degraded()

    assert value(one, "rate_limiter_degraded_total") == 1
    assert value(other, "rate_limiter_degraded_total") == 0


def test_the_exposition_is_what_prometheus_asks_for() -> None:
    body, content_type = Metrics().render()

    assert content_type.startswith("text/plain")
    assert b"# TYPE sessiontrail_rate_limiter_degraded_total counter" in body
    assert b"_created" not in body


def test_a_request_goes_to_metrics_and_access_log_in_one_call() -> None:
    stream = io.BytesIO()
    telemetry = Telemetry(AccessLog(stream))

    telemetry.request("GET", "/healthz", 200, 0.0015, CORRELATION)

    assert orjson.loads(stream.getvalue())["duration_us"] == 1500
    assert (
        value(telemetry, "http_requests_total", route="/healthz", method="GET", status="200") == 1
    )
