"""``compose.yaml`` says what the code says: its settings are documented, its commands exist."""

from pathlib import Path
from typing import Any

import typer
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from sessiontrail.cli import app as command_line

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
"""Any: YAML."""
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


def test_every_setting_is_documented() -> None:
    documented = (ROOT / "docs/settings.md").read_text(encoding="utf-8")

    named = {name for each in OURS.values() for name in each["environment"]}

    assert named
    assert [name for name in sorted(named) if f"`{name}`" not in documented] == []


def test_every_command_exists() -> None:
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]

    run = [each["command"] for each in OURS.values()]

    assert run
    assert all(program == "sessiontrail" and name in commands for program, name in run)


def test_every_service_that_is_waited_for_and_every_volume_is_there() -> None:
    awaited = {name for each in SERVICES.values() for name in each.get("depends_on", ())}
    mounted = {
        volume.partition(":")[0] for each in SERVICES.values() for volume in each.get("volumes", ())
    }

    assert awaited <= SERVICES.keys()
    assert mounted <= COMPOSE["volumes"].keys()


def test_the_files_that_the_image_is_built_of_are_there() -> None:
    lines = COMPOSE["x-sessiontrail"]["build"]["dockerfile_inline"].splitlines()

    copied = [line.split()[1] for line in lines if line.startswith("COPY")]

    assert copied
    assert all((ROOT / each).exists() for each in copied)


def test_only_the_loopback_interface_is_published() -> None:
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
